"""Several models behind one queue: the built-in one under three names, of which two have room at a time."""

import signal
import uuid
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client, Done, Failed, Image
from stablediffusiond.client.job import Job
from stablediffusiond.errors import JobFailed
from stablediffusiond.messages.replies import Problem
from stablediffusiond.settings import Settings
from tests.end_to_end.conftest import Service
from tests.preloaded import request_daemon, response_daemon
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

ROOM_FOR_TWO = 2.5


@pytest.fixture(scope="module")
def service(
    broker: PrivateBroker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Both daemons, with the models doodle, quick (of three steps) and other, and one that is broken."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "broken.safetensors").write_bytes(b"no model")
    environment = {
        **names,
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_FOLDERS__MODELS": str(folder),
        "STABLEDIFFUSIOND_MODELS__QUICK__NAME": "doodle",
        "STABLEDIFFUSIOND_MODELS__QUICK__STEPS": "3",
        "STABLEDIFFUSIOND_MODELS__OTHER__NAME": "doodle",
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": str(int(ROOM_FOR_TWO * 17_700_000)),
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": "2",
        "STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "16",  # else, on a slow machine, a job has no room beside two others
    }
    topology = Topology(names["STABLEDIFFUSIOND_QUEUES__REQUESTS"], names["STABLEDIFFUSIOND_QUEUES__RESULTS"])
    with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
        requestd.wait_ready()
        responsed.wait_ready()
        yield Service(broker, requestd, responsed, environment, topology)


def drawn(job: Job) -> Image:
    *_, image, done = job.events(timeout_seconds=120)
    assert isinstance(image, Image)
    assert isinstance(done, Done)
    return image


def failure(job: Job) -> Problem:
    *_, failed = job.events(timeout_seconds=60)
    assert isinstance(failed, Failed)
    return failed.error


def test_each_job_is_drawn_with_its_model_and_no_load_is_repeated_for_nothing(service: Service) -> None:
    asked = ["doodle", "quick", "Other.safetensors [0123abcd]", "QUICK", "doodle", "other", "quick"]
    with Client(service.settings) as client:
        jobs = [client.submit(prompt="a red cat", steps=3, seed=1, model=name) for name in asked]
        images = [drawn(job) for job in jobs]
        [worker] = client.status().workers
    assert [image.facts.model for image in images] == ["doodle", "quick", "other", "quick", "doodle", "other", "quick"]
    loads = [line for line in service.requestd.log.splitlines() if " is loaded in " in line]
    assert 2 <= len(loads) <= 3
    assert len(worker.models) == 2
    assert {model.state for model in worker.models} == {"resident"}
    assert all(model.nbytes for model in worker.models)


def test_what_a_request_leaves_open_its_own_model_chooses(service: Service) -> None:
    with Client(service.settings) as client:
        assert drawn(client.submit(prompt="a red cat", model="quick")).facts.steps == 3
        assert drawn(client.submit(prompt="a red cat", steps=4)).facts.model == "doodle", "the default"


def test_models_are_offered_and_an_unknown_one_gets_the_nearest(service: Service) -> None:
    said = service.shell("stablediffusion_client models")
    [line] = [line for line in said.splitlines() if line.startswith("  models")]
    assert set(line.removeprefix("  models").strip().split(", ")) == {"doodle", "broken", "other", "quick"}
    with Client(service.settings) as client, pytest.raises(JobFailed, match="did you mean 'quick'"):
        client.draw(prompt="a red cat", model="quik")


def test_a_model_that_cannot_be_opened_fails_the_job_that_wanted_it_and_no_other(service: Service) -> None:
    with Client(service.settings) as client:
        bad, good = (client.submit(prompt="a red cat", steps=2, model=name) for name in ("broken", "doodle"))
        error = failure(bad)
        assert error.code == "model_error"
        assert error.message.startswith("the model 'broken' cannot be loaded: ")
        assert drawn(good).facts.model == "doodle"
    assert service.requestd.log.count("'broken' cannot be loaded: ") >= 1


def test_a_job_that_waits_for_its_model_is_cancelled_at_once(service: Service) -> None:
    with Client(service.settings) as client:
        names = [model.name for model in client.status().workers[0].models]
        away = next(name for name in ("doodle", "quick", "other") if name not in names)
        busy = [client.submit(prompt="a red cat", steps=150, model=name) for name in names]
        waiting = client.submit(prompt="a red cat", model=away, steps=2)
        while not any(model.waiting and model.name == away for model in client.status().workers[0].models):
            pass
        client.cancel(waiting.id)
        assert failure(waiting).code == "cancelled"
        for job in busy:
            client.cancel(job.id)
            assert failure(job).code == "cancelled"


def several(broker: PrivateBroker) -> dict[str, str]:
    name = uuid.uuid4().hex[:8]
    return {
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": f"requests-{name}",
        "STABLEDIFFUSIOND_QUEUES__RESULTS": f"results-{name}",
        "STABLEDIFFUSIOND_MODELS__QUICK__NAME": "doodle",
    }


def client_of(environment: dict[str, str], responsed: Daemon) -> Client:
    queues = {key: environment[f"STABLEDIFFUSIOND_QUEUES__{key.upper()}"] for key in ("requests", "results")}
    broker = {"url": environment["STABLEDIFFUSIOND_BROKER__URL"]}
    responses = {"host": "127.0.0.1", "port": responsed.port()}
    return Client(Settings.model_validate({"broker": broker, "queues": queues, "responses": responses}))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_daemon_that_ends_while_it_loads_loses_no_job(broker: PrivateBroker, how: signal.Signals) -> None:
    environment = several(broker)
    with response_daemon(environment) as responsed, client_of(environment, responsed.wait_ready()) as client:
        with request_daemon(environment) as first:
            first.wait_ready()
            job = client.submit(prompt="a red cat", steps=2, model="quick")
            first.wait_log("loading the model quick")
            first.process.send_signal(how)
            assert first.process.wait(60) == (0 if how == signal.SIGTERM else -how)
        with request_daemon(environment) as second:
            second.wait_ready()
            assert drawn(job).facts.model == "quick"
