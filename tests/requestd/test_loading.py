"""The daemon's start, as a real process with a real torch: what ends it, with which exit code, and when."""

import time
from pathlib import Path
from typing import ClassVar

import pytest

from stablediffusiond.engine.capacity import ROWS_OF_ONE_IMAGE, warm_up
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.in_flight import InFlightJobs
from stablediffusiond.requestd.model_loader import ModelLoader
from stablediffusiond.requestd.model_set import ModelSet
from stablediffusiond.requestd.status_report import StatusReport
from stablediffusiond.settings import Settings
from tests import preloaded
from tests.engine.fake import FakeDenoiser
from tests.engine.loopback_hub import SilentHub
from tools.daemons import request_daemon


def test_sigterm_is_obeyed_while_torch_and_a_model_are_loaded(environment: dict[str, str]) -> None:
    with request_daemon(environment) as daemon:
        daemon.wait_status("loading doodle")
        began = time.monotonic()
        assert daemon.stop(60) == 0
        assert time.monotonic() - began < 10
        assert "READY=1" not in daemon.notices


def test_a_hub_that_is_silent_ends_it_soon_and_not_for_good(environment: dict[str, str], tmp_path: Path) -> None:
    with SilentHub() as hub:
        environment |= {
            "STABLEDIFFUSIOND_MODEL__NAME": "somebody/tiny", "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path),
            "HF_HUB_ETAG_TIMEOUT": "2",
        }  # fmt: skip
        with request_daemon(environment) as daemon:
            assert daemon.process.wait(120) == 70, "systemd starts it again"
            assert f"model 'somebody/tiny' cannot be fetched from {hub.endpoint} now" in daemon.status
            assert "Traceback" not in daemon.log


def test_a_gpu_that_is_asked_for_and_not_there_is_waited_for_by_systemd(environment: dict[str, str]) -> None:
    environment |= {"STABLEDIFFUSIOND_MODEL__DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    with preloaded.request_daemon(environment) as daemon:
        assert daemon.process.wait(120) == 70
        assert "[model] device is 'cuda', and there is no CUDA here" in daemon.status
        assert "Traceback" not in daemon.log


def test_a_file_that_will_never_be_a_model_ends_it_for_good(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"<!DOCTYPE html>")
    environment["STABLEDIFFUSIOND_MODEL__NAME"] = str(tmp_path / "model.safetensors")
    with preloaded.request_daemon(environment) as daemon:
        assert daemon.process.wait(120) == 78
        assert "a web page: a download that was refused" in daemon.status
        assert "Traceback" not in daemon.log


class Timed(FakeDenoiser):
    def __init__(self, timed: list[int]) -> None:
        super().__init__()
        self._timed = timed

    def time_rows(self, rows: int) -> float:
        self._timed.append(rows)
        return super().time_rows(rows)


@pytest.mark.parametrize(("changed", "measured_again"), [({}, False), ({"engine": {"compile": "regions"}}, True)])
async def test_a_model_is_measured_once(changed: dict[str, object], measured_again: bool) -> None:
    timed: list[int] = []
    settings = Settings.model_validate({"models": {"b": {"name": "doodle"}}, **changed})
    loader = ModelLoader(settings, Catalogue(settings), lambda *_: Timed(timed))
    first = await loader.load_beside("b")
    assert len(timed) > 1
    timed.clear()
    again = await loader.load_beside("b")
    assert (timed != [ROWS_OF_ONE_IMAGE]) == measured_again
    assert (again.capacity is not first.capacity) == measured_again
    assert again.denoiser is not first.denoiser


async def test_a_model_of_other_settings_is_measured_anew() -> None:
    timed: list[int] = []
    settings = Settings.model_validate({"models": {"b": {"name": "doodle"}}})
    catalogue = Catalogue(settings)
    loader = ModelLoader(settings, catalogue, lambda *_: Timed(timed))
    first = await loader.load_beside("b")
    catalogue.look_again(Settings.model_validate({"models": {"b": {"name": "doodle", "vae_tiling": "off"}}}))
    timed.clear()
    assert (await loader.load_beside("b")).capacity is not first.capacity
    assert len(timed) > 1


class NeverLoads:
    host_bytes: ClassVar[dict[str, int]] = {}

    def bytes_of(self, name: str) -> int:
        return 0

    async def unload(self, name: str, model: LoadedModel) -> None:
        raise AssertionError

    async def load_beside(self, name: str) -> LoadedModel:
        raise AssertionError(name)


def test_why_it_draws_on_a_cpu_is_said_to_systemd_and_to_who_asks() -> None:
    denoiser = FakeDenoiser()
    denoiser.shortcoming = "its driver does not answer torch"
    capacity = warm_up(denoiser, None)
    loaded = LoadedModels("doodle", LoadedModel(denoiser, capacity))
    engine = Engine(loaded, loaded, progress_interval_seconds=1, on_event=lambda _: None)
    models = ModelSet(loaded, NeverLoads(), most_bytes=1, max_wait_seconds=1, on_change=lambda: None)
    report = StatusReport(
        model="doodle", served=list, loaded=loaded, models=models, engine=engine, in_flight=InFlightJobs(), counters=Counters()
    )
    assert report.line(0, None) == "0 drawing, 0 waiting, 0.0 img/s; on fake: its driver does not answer torch"
    assert report.full().shortcoming == "its driver does not answer torch"
