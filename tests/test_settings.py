import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import ModelSettings, Settings, load, loading

EXAMPLE = Path(__file__).parents[1] / "settings.example.toml"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine."""
    monkeypatch.delenv("STABLEDIFFUSIOND_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    return file


def complaint(path: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path)
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_the_example_shows_every_key_with_its_default() -> None:
    text = EXAMPLE.read_text("utf-8")
    assert load(EXAMPLE) == load()
    shown = tomllib.loads(re.sub(r"^# (\w+ = |\[)", r"\1", text, flags=re.MULTILINE))
    assert set(shown) == set(Settings.model_fields)
    assert set(shown["models"]["anime"]) <= set(ModelSettings.model_fields)
    for name, field in Settings.model_fields.items():
        if name == "models":
            continue
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        assert list(shown[name]) == list(section.model_fields), name
        for key, each in section.model_fields.items():
            assert f"# {each.description}\n" in text, f"[{name}] {key} is explained"


def test_a_byte_order_mark_is_skipped_in_the_file_and_in_secrets(tmp_path: Path) -> None:
    url = tmp_path / "url"
    url.write_bytes(b"\xef\xbb\xbfamqp://there/")
    file = tmp_path / "settings.toml"
    file.write_bytes(f'\ufeff[broker]\nurl_file = "{url}"\n'.encode())
    assert load(file).broker.url.get_secret_value() == "amqp://there/"


def test_a_key_of_an_earlier_version_is_no_error_in_a_file_that_an_upgrade_has_kept(tmp_path: Path) -> None:
    assert load(written(tmp_path, "[engine]\nwaiting_jobs = 2\nmax_images = 3\n")).engine.max_images == 3


def test_the_environment_overrides_the_file_key_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, '[model]\nname = "x"\ndevice = "cpu"\n')
    monkeypatch.setenv("STABLEDIFFUSIOND_MODEL__NAME", "y")
    assert (load(file).model.name, load(file).model.device) == ("y", "cpu")


def test_a_named_file_comes_before_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = tmp_path / "home/stablediffusiond/settings.toml"
    usual.parent.mkdir(parents=True)
    usual.write_text('[model]\nname = "usual"\n')
    assert load().model.name == "usual"
    named = written(tmp_path, '[model]\nname = "named"\n')
    monkeypatch.setenv("STABLEDIFFUSIOND_CONFIG", str(named))
    assert load().model.name == "named"
    assert load(usual).model.name == "usual"
    monkeypatch.setenv("STABLEDIFFUSIOND_CONFIG", "")
    assert load().model.name == "usual"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[broker]\nurll = 'x'\n", r"settings\.toml: \[broker\] urll: unknown key; did you mean 'url'\?"),
        ("[brokr]\n", r"\[brokr\]: unknown section; did you mean 'broker'\?"),
        ("port = 1\n", r"'port' stands outside a section"),
        ("[responses]\nport = 'many'\n", r"\[responses\] port: .*integer.*, not 'many'"),
        ("[responses]\nport = 70000\n", r"\[responses\] port: .*less than or equal to 65535, not 70000"),
        ("[model]\ndtype = 'float8'\n", r"\[model\] dtype: .*'float32'.*not 'float8'"),
        ("[broker\n", r"is not TOML"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_place(tmp_path: Path, text: str, expected: str) -> None:
    assert re.search(expected, complaint(written(tmp_path, text)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "cannot read" in complaint(tmp_path / "none.toml")
    assert "cannot read" in complaint(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("STABLEDIFFUSIOND_BROKR__URL", "x", "BROKR__URL: unknown section 'brokr'; did you mean 'broker'?"),
        ("STABLEDIFFUSIOND_BROKER__URLL", "x", "environment: [broker] urll: unknown key; did you mean 'url'?"),
        ("STABLEDIFFUSIOND_RESPONSES__PORT", "x", "environment: [responses] port"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    assert expected in complaint()


def test_the_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, "[broker]\nurl = 'amqp://me:sesame@host/'\n")
    assert "sesame" not in repr(load(file)) + str(load(file).model_dump())
    monkeypatch.setenv("STABLEDIFFUSIOND_BROKER__URL", '["sesame"]')
    file.write_text("[broker]\nurl = ['sesame']\n")
    monkeypatch.delenv("STABLEDIFFUSIOND_BROKER__URL")
    assert "sesame" not in complaint(file)


def test_the_url_may_lie_in_a_file_for_some_to_read(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://me:sesame@host/x\n")
    settings = load(written(tmp_path, f"[broker]\nurl_file = '{tmp_path}/url'\n"))
    assert settings.broker.url.get_secret_value() == "amqp://me:sesame@host/x"


def test_a_url_that_is_given_comes_before_one_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("amqp://other/")
    file = written(tmp_path, f"[broker]\nurl = 'amqp://mine/'\nurl_file = '{tmp_path}/url'\n")
    assert load(file).broker.url.get_secret_value() == "amqp://mine/"


def test_operators_go_by_a_file_of_their_own_if_they_may_read_it(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("amqp://client/")
    lines = f"[broker]\nurl_file = '{tmp_path}/url'\noperator_url_file = '{tmp_path}/operator'\n"
    file = written(tmp_path, lines)
    assert load(file, operator=True).broker.url.get_secret_value() == "amqp://client/"
    (tmp_path / "operator").write_text("amqp://daemon/")
    assert load(file, operator=True).broker.url.get_secret_value() == "amqp://daemon/"
    assert load(file).broker.url.get_secret_value() == "amqp://client/"


def test_a_url_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, f"[broker]\nurl_file = '{tmp_path}/url'\n")
    assert "url cannot be read: " in complaint(file)
    (tmp_path / "url").write_text("amqp://x/")

    def refuse(*_: object) -> str:
        raise PermissionError

    monkeypatch.setattr(loading, "_read", lambda _: {"broker": {"url_file": str(tmp_path / "url")}})
    monkeypatch.setattr(Path, "read_text", refuse)
    assert "is not for you to read; ask to be taken into the group" in complaint(file)
