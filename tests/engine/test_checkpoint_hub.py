"""Models of a hub, in processes of their own: what huggingface_hub is told by its environment, it reads once."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from huggingface_hub import constants

from stablediffusiond.engine.checkpoints import hub
from stablediffusiond.errors import ModelUnavailable, StableDiffusiondError
from tests.engine.loopback_hub import COMMIT, Hub, SilentHub

_OPEN: Final = """
import json, sys, time
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.settings import ModelSettings
began = time.monotonic()
try:
    said = {"kind": type(load_pipeline(ModelSettings(name=sys.argv[1], device="cpu", **json.loads(sys.argv[2])))).__name__, "code": 0}
except StableDiffusiondError as error:
    said = {"error": str(error), "code": error.exit_code}
print(json.dumps({**said, "seconds": time.monotonic() - began}))
"""


def opened(name: str, endpoint: str, cache: Path, settings: dict[str, str] | None = None, **environment: str) -> Any:
    told = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_ETAG_TIMEOUT": "1", **environment}
    told |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", _OPEN, name, json.dumps(settings or {})],
        env=told, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


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


def test_a_model_in_the_cache_is_opened_without_asking_a_hub_that_is_silent(cache: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", silent.endpoint, cache)
        assert said["kind"] == "StableDiffusionPipeline", said
        assert not silent.was_asked()


def test_a_hub_that_is_silent_is_given_up_soon_and_tried_again_later(tmp_path: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", silent.endpoint, tmp_path)
        assert silent.was_asked()
    assert f"model 'somebody/tiny' cannot be fetched from {silent.endpoint} now" in said["error"]
    assert (said["code"], said["seconds"] < 20) == (70, True), said


def test_a_hub_that_refuses_connections_is_tried_again_later(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    said = opened("somebody/tiny", endpoint, tmp_path)
    assert f"cannot be fetched from {endpoint} now" in said["error"]
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
    with Hub(status=status, headers=headers) as answering, pytest.raises(StableDiffusiondError, match=wanted) as caught:
        monkeypatch.setattr(constants, "ENDPOINT", answering.endpoint)
        hub.snapshot("somebody/no-such-model-anywhere", allow_pickle=False)
    assert caught.value.exit_code == code


def test_a_repository_of_single_files_says_which_to_fetch(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/flux1-dev-Q4_K_S.gguf").write_bytes(b"GGUF")
    with Hub(tmp_path / "files") as serving:
        said = opened("somebody/tiny", serving.endpoint, tmp_path / "cache")
    assert "it has no model_index.json; fetch one of its files, as flux1-dev-Q4_K_S.gguf, and name that" in said["error"]
    assert said["code"] == 78


def test_a_network_that_is_a_file_here_is_not_fetched(model: Path, tmp_path: Path) -> None:
    given = {"transformer": str(model / "unet/diffusion_pytorch_model.safetensors")}
    with Hub(model) as serving:
        said = opened("somebody/tiny", serving.endpoint, tmp_path / "cache", given)
        assert said.get("kind") == "StableDiffusionPipeline", said
        assert any(path.endswith("/vae/diffusion_pytorch_model.safetensors") for path in serving.asked)
        assert not any("/unet/diffusion_pytorch_model" in path for path in serving.asked)
        asked = len(serving.asked)
        assert opened("somebody/tiny", serving.endpoint, tmp_path / "cache", given)["kind"] == said["kind"]
        assert len(serving.asked) == asked, "it is in the cache"
        assert opened("somebody/tiny", serving.endpoint, tmp_path / "cache")["kind"] == said["kind"]
        assert any("/unet/diffusion_pytorch_model" in path for path in serving.asked), "where it is not a file here, it is"


def test_a_model_is_fetched_once(model: Path, tmp_path: Path) -> None:
    with Hub(model) as serving:
        said = opened("somebody/tiny", serving.endpoint, tmp_path / "cache")
        assert said.get("kind") == "StableDiffusionPipeline", said
        serving.asked.clear()
        assert opened("somebody/tiny", serving.endpoint, tmp_path / "cache")["kind"] == "StableDiffusionPipeline"
        assert serving.asked == []


def test_a_vae_may_be_one_of_a_hub(model: Path, tmp_path: Path) -> None:
    with Hub(model / "vae") as serving:
        said = opened(str(model), serving.endpoint, tmp_path / "cache", {"vae": "somebody/tiny"})
    assert said.get("kind") == "StableDiffusionPipeline", said
    assert any("diffusion_pytorch_model.safetensors" in path for path in serving.asked)
    with SilentHub() as silent:
        said = opened(str(model), silent.endpoint, tmp_path / "cache", {"vae": "somebody/tiny"})
        assert said.get("kind") == "StableDiffusionPipeline", said
        assert not silent.was_asked()


def test_a_repository_that_is_no_model_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Hub(model / "unet") as unfit, pytest.raises(ModelUnavailable, match="is no model in the layout of diffusers"):
        monkeypatch.setattr(constants, "ENDPOINT", unfit.endpoint)
        hub.snapshot("somebody/tiny", allow_pickle=False)


def test_a_model_that_is_half_in_the_cache_is_completed(model: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "cache/hub/models--somebody--tiny/snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text(COMMIT)
    (snapshot / "model_index.json").write_bytes((model / "model_index.json").read_bytes())
    with SilentHub() as silent:
        said = opened("somebody/tiny", silent.endpoint, tmp_path / "cache")
        assert said["code"] == 70, said
    with Hub(model) as serving:
        assert opened("somebody/tiny", serving.endpoint, tmp_path / "cache").get("kind") == "StableDiffusionPipeline"


def test_offline_a_model_that_is_not_in_the_cache_is_not_asked_for(tmp_path: Path) -> None:
    with SilentHub() as silent:
        said = opened("somebody/tiny", silent.endpoint, tmp_path, HF_HUB_OFFLINE="1")
        assert not silent.was_asked()
    assert "HF_HUB_OFFLINE forbids to fetch it" in said["error"]
    assert said["code"] == 78


@pytest.mark.parametrize("name", ["not/a/hub/id", "what is this?", "-x/y"])
def test_what_cannot_be_a_hub_id_is_said_to_be_nothing(name: str) -> None:
    with pytest.raises(ModelUnavailable, match="is no file, no folder, and no hub id"):
        hub.snapshot(name, allow_pickle=False)


def test_a_hub_that_is_silent_in_the_middle_of_a_file_is_given_up_and_the_download_goes_on_later(
    model: Path, tmp_path: Path
) -> None:
    with Hub(model, stalls=True) as stalling:
        said = opened("somebody/tiny", stalling.endpoint, tmp_path / "cache", HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert f"cannot be fetched from {stalling.endpoint} now" in said["error"]
    assert (said["code"], said["seconds"] < 120) == (70, True), said
    with Hub(model) as serving:
        assert opened("somebody/tiny", serving.endpoint, tmp_path / "cache").get("kind") == "StableDiffusionPipeline"
