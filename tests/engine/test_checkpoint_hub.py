"""Models of a hub, in processes of their own: what huggingface_hub is told by its environment, it reads once."""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import pytest
from huggingface_hub import constants

from stablediffusiond.engine.checkpoints import hub
from stablediffusiond.errors import ModelUnavailable, StableDiffusiondError
from tests.engine import loopback_hub
from tests.engine.hub_opening import open_model
from tests.engine.loopback_hub import COMMIT
from tests.fork_servers import forked

#: For all processes that share an environment. On an address of its own no other program is given that port meanwhile.
with socket.create_server(("127.0.0.2", 0)) as _free:
    _ADDRESS: Final[tuple[str, int]] = _free.getsockname()
ENDPOINT: Final = f"http://127.0.0.2:{_ADDRESS[1]}"
Hub = partial(loopback_hub.Hub, address=_ADDRESS)
SilentHub = partial(loopback_hub.SilentHub, address=_ADDRESS)
CHECKOUT: Final = Path(__file__).parents[2]
_PROGRAM: Final = "import json, sys; from tests.engine.hub_opening import *; open_model(*json.loads(sys.argv[1]), Path(sys.argv[2]))"


class Opened(Protocol):
    def __call__(self, name: str, cache: Path, settings: dict[str, str] | None = None, **environment: str) -> Any: ...


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens a model in a process of its own, with a cache.

    They share what was imported, and the environment of that moment; but for those that ask for one of their own.
    """
    scratch = tmp_path_factory.mktemp("opened")
    home, answer = scratch / "home", scratch / "answer"
    told = {
        "HF_ENDPOINT": ENDPOINT, "HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1",
    }  # fmt: skip

    def open_with(name: str, cache: Path, settings: dict[str, str] | None = None, **environment: str) -> Any:
        home.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        home.symlink_to(cache)
        answer.unlink(missing_ok=True)
        asked = name, settings or {}
        if environment:
            subprocess.run(
                [sys.executable, "-c", _PROGRAM, json.dumps(asked), answer],
                env={**os.environ, **told, **environment}, cwd=CHECKOUT, check=True, timeout=200,
            )  # fmt: skip
        else:
            process = forked(["tests.engine.hub_opening"], open_model, *asked, answer, environment=told)
            process.join(200)
            assert process.exitcode == 0
        return json.loads(answer.read_text("utf-8"))

    return open_with


@pytest.fixture(scope="module")
def model(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(made)
    return made


@pytest.fixture
def cache(model: Path, tmp_path: Path) -> Path:
    """One that holds the model, as huggingface_hub lays it out."""
    repository = tmp_path / "cache/hub/models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / COMMIT).symlink_to(model)
    return tmp_path / "cache"


def test_a_model_in_the_cache_is_opened_without_asking_a_hub_that_is_silent(opened: Opened, cache: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", cache)
        assert said["kind"] == "StableDiffusionPipeline", said
        assert not silent.was_asked()


def test_a_hub_that_is_silent_is_given_up_soon_and_tried_again_later(opened: Opened, tmp_path: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", tmp_path)
        assert silent.was_asked()
    assert f"model 'somebody/tiny' cannot be fetched from {silent.endpoint} now" in said["error"]
    assert (said["code"], said["seconds"] < 20) == (70, True), said


def test_a_hub_that_refuses_connections_is_tried_again_later(opened: Opened, tmp_path: Path) -> None:
    said = opened("somebody/tiny", tmp_path)
    assert f"cannot be fetched from {ENDPOINT} now" in said["error"]
    assert (said["code"], said["seconds"] < 20) == (70, True), said


@pytest.mark.parametrize(
    ("status", "headers", "code", "wanted"),
    [
        (
            403,
            {"X-Error-Code": "GatedRepo"},
            78,
            r"write a token of yours in HF_TOKEN \(systemctl edit stablediffusiond",
        ),
        (401, {"X-Error-Code": "RepoNotFound"}, 78, "is not at"),
        (404, {"X-Error-Code": "RepoNotFound"}, 78, "is not at"),
        (403, {}, 78, "HF_TOKEN"),
        (500, {}, 70, "cannot be fetched"),
        (429, {"Retry-After": "1"}, 70, "cannot be fetched"),
    ],
)
def test_what_a_hub_answers_says_whether_it_is_worth_another_try(
    status: int, headers: dict[str, str], code: int, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loopback_hub.Hub(status=status, headers=headers) as answering, pytest.raises(StableDiffusiondError, match=wanted) as caught:
        monkeypatch.setattr(constants, "ENDPOINT", answering.endpoint)
        hub.snapshot("somebody/no-such-model-anywhere", allow_pickle=False)
    assert caught.value.exit_code == code


def test_a_repository_of_single_files_says_which_to_fetch(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/flux1-dev-Q4_K_S.gguf").write_bytes(b"GGUF")
    with Hub(tmp_path / "files"):
        said = opened("somebody/tiny", tmp_path / "cache")
    assert "it has no model_index.json; fetch one of its files, as flux1-dev-Q4_K_S.gguf, and name that" in said["error"]
    assert said["code"] == 78


def test_a_network_that_is_a_file_here_is_not_fetched(opened: Opened, model: Path, tmp_path: Path) -> None:
    given = {"transformer": str(model / "unet/diffusion_pytorch_model.safetensors")}
    with Hub(model) as serving:
        said = opened("somebody/tiny", tmp_path / "cache", given)
        assert said.get("kind") == "StableDiffusionPipeline", said
        assert any(path.endswith("/vae/diffusion_pytorch_model.safetensors") for path in serving.asked)
        assert not any("/unet/diffusion_pytorch_model" in path for path in serving.asked)
        asked = len(serving.asked)
        assert opened("somebody/tiny", tmp_path / "cache", given)["kind"] == said["kind"]
        assert len(serving.asked) == asked, "it is in the cache"
        assert opened("somebody/tiny", tmp_path / "cache")["kind"] == said["kind"]
        assert any("/unet/diffusion_pytorch_model" in path for path in serving.asked), "where it is not a file here, it is"


def test_a_model_is_fetched_once(opened: Opened, model: Path, tmp_path: Path) -> None:
    with Hub(model) as serving:
        said = opened("somebody/tiny", tmp_path / "cache")
        assert said.get("kind") == "StableDiffusionPipeline", said
        serving.asked.clear()
        assert opened("somebody/tiny", tmp_path / "cache")["kind"] == "StableDiffusionPipeline"
        assert serving.asked == []


def test_a_vae_may_be_one_of_a_hub(opened: Opened, model: Path, tmp_path: Path) -> None:
    with Hub(model / "vae") as serving:
        said = opened(str(model), tmp_path / "cache", {"vae": "somebody/tiny"})
    assert said.get("kind") == "StableDiffusionPipeline", said
    assert any("diffusion_pytorch_model.safetensors" in path for path in serving.asked)
    with SilentHub() as silent:
        said = opened(str(model), tmp_path / "cache", {"vae": "somebody/tiny"})
        assert said.get("kind") == "StableDiffusionPipeline", said
        assert not silent.was_asked()


def test_a_repository_that_is_no_model_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with loopback_hub.Hub(model / "unet") as unfit, pytest.raises(ModelUnavailable, match="is no model in the layout of diffusers"):
        monkeypatch.setattr(constants, "ENDPOINT", unfit.endpoint)
        hub.snapshot("somebody/tiny", allow_pickle=False)


def test_a_model_that_is_half_in_the_cache_is_completed(opened: Opened, model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/hub/models--somebody--tiny/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(COMMIT)
    (snapshot / "model_index.json").write_bytes((model / "model_index.json").read_bytes())
    with SilentHub():
        said = opened("somebody/tiny", tmp_path / "cache")
        assert said["code"] == 70, said
    with Hub(model):
        assert opened("somebody/tiny", tmp_path / "cache").get("kind") == "StableDiffusionPipeline"


def test_offline_a_model_that_is_not_in_the_cache_is_not_asked_for(opened: Opened, tmp_path: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", tmp_path, HF_HUB_OFFLINE="1")
        assert not silent.was_asked()
    assert "HF_HUB_OFFLINE forbids to fetch it" in said["error"]
    assert said["code"] == 78


@pytest.mark.parametrize("name", ["not/a/hub/id", "what is this?", "-x/y"])
def test_what_cannot_be_a_hub_id_is_said_to_be_nothing(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="is no file, no folder, and no hub id"):
        hub.snapshot(name, allow_pickle=False)


def test_a_hub_that_is_silent_in_the_middle_of_a_file_is_given_up_and_the_download_goes_on_later(
    opened: Opened, model: Path, tmp_path: Path
) -> None:
    with Hub(model, stalls=True) as stalling:
        said = opened("somebody/tiny", tmp_path / "cache")
    assert f"cannot be fetched from {stalling.endpoint} now" in said["error"]
    assert (said["code"], said["seconds"] < 120) == (70, True), said
    with Hub(model):
        assert opened("somebody/tiny", tmp_path / "cache").get("kind") == "StableDiffusionPipeline"
