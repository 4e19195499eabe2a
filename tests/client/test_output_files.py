import os
from pathlib import Path

import click
import pytest

from stablediffusiond.cli.output_files import OutputFiles
from stablediffusiond.cli.standard_output import Unwritable
from stablediffusiond.messages.request import Request


def made(**fields: object) -> Request:
    return Request.from_fields({"prompt": "cat", "id": "mine", "seed": 7, **fields})[0]


def write(output: str | None, **fields: object) -> list[str]:
    """The names under which the pictures of a job are written."""
    request = made(**fields)
    files = OutputFiles(output, request)
    return [str(files.write(index, b"a picture")) for index in range(request.count)]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("output", "fields", "names"),
    [
        (None, {}, ["mine.png"]),
        (None, {"count": 2}, ["mine-0.png", "mine-1.png"]),
        ("cat.png", {"count": 2}, ["cat-0.png", "cat-1.png"]),
        ("cat", {"count": 2}, ["cat-0", "cat-1"]),
        ("{seed}.png", {"count": 2}, ["7.png", "8.png"]),
        ("{index:03d}.png", {"count": 2}, ["000.png", "001.png"]),
        ("{id}.png", {"count": 2}, ["mine-0.png", "mine-1.png"]),
        ("{{id}}.png", {}, ["{id}.png"]),
        (None, {"format": "jpeg"}, ["mine.jpg"]),
        (None, {"format": "webp", "count": 2}, ["mine-0.webp", "mine-1.webp"]),
        ("cat.png", {"format": "jpeg"}, ["cat.png"]),
        (None, {"id": "../../etc/passwd"}, ["_._.._etc_passwd.png"]),
    ],
)
def test_names_follow_the_pattern(output: str | None, fields: dict[str, object], names: list[str]) -> None:
    assert write(output, **fields) == names
    assert sorted(os.listdir()) == sorted(names)


def test_a_folder_takes_pictures_under_their_own_names() -> None:
    Path("a{b}").mkdir()
    assert write("a{b}", count=2) == ["a{b}/mine-0.png", "a{b}/mine-1.png"]
    assert write("a{b}", format="webp") == ["a{b}/mine.webp"]


def test_a_folder_that_is_not_there_is_not_made() -> None:
    with pytest.raises(click.UsageError, match="cannot write into"):
        OutputFiles("nowhere/", made())


def test_a_folder_that_one_may_not_look_into_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)  # as it is for others than root in root's home
    with pytest.raises(click.UsageError, match="cannot write into"):
        OutputFiles("secret/cat.png", made())


def test_a_file_is_replaced_and_a_link_is_followed() -> None:
    Path("old.png").write_bytes(b"old")
    Path("link.png").symlink_to("old.png")
    assert write("link.png") == ["link.png"]
    assert Path("old.png").read_bytes() == b"a picture"
    assert Path("link.png").is_symlink()


def test_a_file_has_the_permissions_of_any_new_file() -> None:
    Path("plain").touch()
    write("cat.png")
    assert Path("cat.png").stat().st_mode == Path("plain").stat().st_mode


def test_a_pipe_is_written_to_and_not_replaced() -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    write("pipe")
    assert os.read(reader, 100) == b"a picture"
    os.close(reader)
    assert Path("pipe").is_fifo()


def test_a_name_that_is_a_folder_is_refused() -> None:
    Path("mine.png").mkdir()
    with pytest.raises(click.UsageError, match="is a folder"):
        OutputFiles(None, made())


def test_a_picture_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    files = OutputFiles("cat.png", made())
    Path("cat.png").mkdir()
    Path("cat.png/inside").touch()
    with pytest.raises(Unwritable, match="cannot write cat"):
        files.write(0, b"a picture")
    assert os.listdir() == ["cat.png"]
