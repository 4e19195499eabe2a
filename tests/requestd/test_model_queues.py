"""Several models behind one queue, and several daemons: RabbitMQ gives a job to the daemon that has its model."""

import asyncio
import signal
from pathlib import Path

import pytest

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.requestd.remembered_models import RememberedModels
from stablediffusiond.settings import BrokerSettings
from tests.requestd.several_daemons import Start, connected, with_models
from tools.private_broker import PrivateBroker


async def test_a_job_goes_to_the_daemon_that_has_its_model(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    chosen = with_models(environment, "b", "c")
    async with connected(settings, topology) as broker:
        pair = start(chosen), start(chosen)
        await broker.until_queues_are_there("b", "c")
        for number in range(12):
            await broker.publish(f"{number}", model="b", queue_of="b" if number % 2 else None)
            await broker.until_ended(f"{number}")
    assert set(broker.ends.values()) == {"done"}
    assert set(broker.drawn_with.values()) == {"b"}
    assert sum(daemon.log.count("loading the model b") for daemon in pair) == 1


async def test_a_daemon_takes_what_another_has_no_room_for_and_loads_its_model(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    chosen = {**with_models(environment, "b"), "STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "1"}
    async with connected(settings, topology) as broker:
        first = start(chosen)
        await broker.until_queues_are_there("b")
        await broker.publish("first", model="b", queue_of="b")
        await broker.until_ended("first")
        second = start(chosen)
        for number in range(12):
            await broker.publish(f"{number}", model="b", queue_of="b", steps=50)
        await broker.until_ended(*map(str, range(12)))
    assert "loading the model b" in first.log
    assert "loading the model b" in second.log


async def test_what_nobody_has_goes_to_the_daemon_that_loads_nothing(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start, broker: PrivateBroker
) -> None:
    """Although the other one is the first in RabbitMQ's order."""
    chosen = {**with_models(environment, "b", "c"), "FAKE_LOAD_SECONDS": "8"}
    queues = [topology.request_queue("normal", model) for model in ("b", "c")]
    async with connected(settings, topology) as client:
        first = start(chosen)
        await client.until_queues_are_there("b", "c")
        await client.until_waited_at(queues, consumers=1)
        second = start(chosen)
        await client.until_waited_at(queues, consumers=2)
        await client.publish("b", model="b", queue_of="b")
        async with asyncio.timeout(7):
            while "-1" not in await asyncio.to_thread(consumers_of, broker, queues[1]):
                await asyncio.sleep(0.05)
        await client.publish("c", model="c", queue_of="c")
        await client.until_ended("b", "c")
    assert "loading the model b" in first.log
    assert "loading the model c" in second.log
    assert client.ends == {"b": "done", "c": "done"}


def consumers_of(broker: PrivateBroker, queue: str) -> str:
    """With their priorities."""
    found = broker.ctl("list_consumers", "queue_name", "arguments").splitlines()
    return "\n".join(line for line in found if line.startswith(queue))


async def test_daemons_with_other_models_draw_what_comes_by_the_plain_queue(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    async with connected(settings, topology) as broker:
        start(with_models(environment, default="a"))
        start(with_models(environment, "c", default="b"))
        await broker.until_queues_are_there("a", "b", "c")
        wanted = {f"{model} {number}": model for model in "abc" for number in range(4)}
        for job_id, model in wanted.items():
            await broker.publish(job_id, model=model)
        await broker.publish("unknown", model="d")
        await broker.until_ended(*wanted, "unknown")
    assert broker.drawn_with == wanted
    assert broker.ends == {**dict.fromkeys(wanted, "done"), "unknown": "invalid_request"}


async def test_a_job_for_a_model_whose_daemon_is_away_just_now_waits_for_it(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    async with connected(settings, topology) as broker:
        start(with_models(environment, default="a"))
        other = start(with_models(environment, default="b"))
        await broker.until_queues_are_there("b")
        other.kill()
        await broker.publish("early", model="b")
        start(with_models(environment, default="b"))
        await broker.until_ended("early")
    assert broker.drawn_with == {"early": "b"}


async def test_what_is_passed_on_keeps_its_order(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    chosen = {**with_models(environment, "b"), "STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "1", "FAKE_LOAD_SECONDS": "0.5"}
    async with connected(settings, topology) as broker:
        start(chosen)
        await broker.until_queues_are_there("b")
        for number in range(10):
            await broker.publish(f"b{number}", model="b")
            await broker.publish(f"default {number}")
        await broker.until_ended("b9", "default 9")
    drawn = list(broker.ends)
    assert [job for job in drawn if job.startswith("b")] == [f"b{number}" for number in range(10)]


@pytest.mark.parametrize("failpoint", ["loading_another", "changing_over", "passing_on"])
async def test_a_daemon_that_ends_at_this_moment_loses_nothing(
    failpoint: str, environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    chosen = with_models(environment, "b", "c")
    jobs = {f"{model} {number}": model for number in range(2) for model in ("b", "c", "doodle")}
    async with connected(settings, topology) as broker:
        dying = start(chosen, failpoint)
        await broker.until_queues_are_there("b", "c")
        for job_id, model in jobs.items():
            await broker.publish(job_id, model=model)
        assert await asyncio.to_thread(dying.process.wait, 60) == -9
        start(chosen)
        await broker.until_ended(*jobs)
    assert broker.ends == dict.fromkeys(jobs, "done")
    assert broker.drawn_with == jobs


async def test_a_job_in_the_queue_of_its_model_is_cancelled(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    async with connected(settings, topology) as broker:
        start({**with_models(environment, "b"), "FAKE_LOAD_SECONDS": "0.5"})
        await broker.until_queues_are_there("b")
        for number in range(40):  # more than wait for their model in a daemon
            await broker.publish(f"{number}", model="b", queue_of="b", priority="low")
        await broker.channel.publish(Message(b'{"cancel": "39"}'), topology.control, "", mandatory=False)
        await broker.until_ended(*map(str, range(40)))
    assert broker.ends == {**dict.fromkeys(map(str, range(39)), "done"), "39": "cancelled"}


async def test_a_queue_that_may_not_be_declared_costs_its_model_no_job(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    """Names that fit into no queue of their own are such models, too."""
    async with connected(settings, topology) as broker:
        start(with_models(environment, "b.high"))
        await broker.publish("job", model="b.high")
        await broker.until_ended("job")
    assert broker.ends == {"job": "done"}


async def test_new_models_are_found_at_a_reload_and_the_jobs_of_those_that_are_gone_are_answered(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start, tmp_path: Path
) -> None:
    folder, config = tmp_path / "models", tmp_path / "settings.toml"
    folder.mkdir()
    (folder / "old.safetensors").touch()
    config.write_text(f'[folders]\nmodels = "{folder}"\n', "utf-8")
    chosen = {**with_models(environment), "STABLEDIFFUSIOND_CONFIG": str(config)}
    async with connected(settings, topology) as broker:
        daemon = start(chosen)
        await broker.until_queues_are_there("old")
        (folder / "old.safetensors").rename(folder / "new.safetensors")
        daemon.process.send_signal(signal.SIGHUP)
        await broker.until_queues_are_there("new")
        await broker.publish("new", model="new", queue_of="new")
        for number in range(5):
            await broker.publish(f"old {number}", model="old", queue_of="old")
        await broker.until_ended("new", *(f"old {number}" for number in range(5)))
    assert broker.ends == {"new": "done", **{f"old {number}": "invalid_request" for number in range(5)}}


async def test_a_model_that_is_gone_from_the_settings_leaves_no_job_behind(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start, tmp_path: Path
) -> None:
    """As long as another daemon has it, that one draws them; afterwards they are answered."""
    keeping = {**environment, "STATE_DIRECTORY": str(tmp_path)}
    async with connected(settings, topology) as broker:
        for daemon in (start(with_models(keeping, "b")), start(with_models(environment, "b"))):
            await broker.until_queues_are_there("b")
            daemon.stop()
        await broker.publish("of both", model="b", queue_of="b")
        without = start(with_models(keeping))
        await broker.until_ended("of both")
        other = start(with_models(environment, "b"))
        await broker.until_served("b")
        await broker.publish("of the other", model="b", queue_of="b")
        await broker.until_ended("of the other")
        assert without.process.poll() is other.process.poll() is None
    assert broker.ends == {"of both": "invalid_request", "of the other": "done"}


def test_what_cannot_be_remembered_is_said_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert RememberedModels("requests", tmp_path).retired(["a", "b"]) == []
    assert RememberedModels("requests", tmp_path).retired(["b", "c"]) == ["a"]
    assert RememberedModels("others", tmp_path).retired(["c"]) == []
    next(tmp_path.glob("*requests*")).write_bytes(b"no JSON")
    assert RememberedModels("requests", tmp_path).retired(["c"]) == []
    assert "cannot be read" in caplog.text
    assert RememberedModels("requests", tmp_path / "nowhere").retired(["c"]) == []
    assert "cannot be written" in caplog.text
    lives = RememberedModels("requests", None)
    assert (lives.retired(["a"]), lives.retired(["b"])) == ([], ["a"])
