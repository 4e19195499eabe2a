"""What the gateway does when it, the broker or the response daemon goes, and what it never loses."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from stablediffusiond.client import Client
from tests.gateway.conftest import BODY, Kept, read_events, running
from tests.preloaded import gateway
from tools.daemons import DaemonFailed
from tools.private_broker import PrivateBroker


def test_a_gateway_that_is_killed_loses_nothing(broker: PrivateBroker, tmp_path: Path, kept: Kept) -> None:
    with running(broker, tmp_path, kept.settings, kept.others) as served:
        jobs = [served.post(body={**BODY, "seed": seed, "count": 2}).json()["id"] for seed in range(6)]
        with served.client.stream("GET", f"/jobs/{jobs[0]}/events") as answer:
            next(event for event in read_events(answer) if event.name == "image")
        served.restart(kill=True)
        for seed, job in enumerate(jobs):
            assert served.events(job)[-1].name == "done"
            images = served.job(job)["images"]
            assert [image["seed"] for image in images] == [seed, seed + 1]
            for image in images:
                assert len(served.client.get(f"/jobs/{job}/images/{image['index']}").content) == image["bytes"]


def test_replies_that_came_while_it_was_away_are_there_when_it_comes_back(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    with running(broker, tmp_path) as served:
        job = served.post(body={**BODY, "steps": 100}).json()["id"]
        served.daemon.kill()
        with Client(served.settings) as other:
            other.draw(**{**BODY, "steps": 120})  # drawn beside it, and longer
        served.restart(kill=True)
        assert served.events(job)[-1].name == "done"


def test_a_stopped_gateway_ends_its_streams_and_its_addresses_stay_good(broker: PrivateBroker, tmp_path: Path) -> None:
    with running(broker, tmp_path) as served:
        picture = served.draw()["images"][0]["url"].removeprefix(served.address)
        job = served.post(body={**BODY, "steps": 150}).json()["id"]
        with served.client.stream("GET", f"/jobs/{job}/events") as answer:
            events = read_events(answer)
            assert next(events).name in {"progress", "preview"}
            served.daemon.process.terminate()
            assert all(event.name in {"progress", "preview"} for event in events)
        assert served.daemon.process.wait(20) == 0
        served.restart(kill=True)
        assert served.client.get(picture).status_code == 200


def test_a_broker_that_is_away_is_said_and_not_waited_for(own_broker: PrivateBroker, tmp_path: Path) -> None:
    with running(own_broker, tmp_path) as served:
        job = served.draw()
        own_broker.settle().kill()
        for _ in range(2):
            answer = served.post(**{"Idempotency-Key": "again"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
        assert served.client.get("/status").status_code == 503
        assert served.client.get(f"/jobs/{job['id']}/images/0").status_code == 200
        [unconfirmed] = [job for job in served.client.get("/jobs").json()["jobs"] if job["state"] == "unconfirmed"]
        assert served.client.delete(f"/jobs/{unconfirmed['id']}").status_code == 204
        own_broker.restart()
        served.responsed.wait_status("clients$")
        answer = served.post(**{"Idempotency-Key": "again"})
        while answer.status_code == 503:
            answer = served.post(**{"Idempotency-Key": "again"})
        assert answer.status_code == 202
        assert served.events(answer.json()["id"])[-1].name == "done"


def test_a_full_queue_is_said(broker: PrivateBroker, tmp_path: Path) -> None:
    with running(broker, tmp_path) as served:
        served.requestd.stop()
        name = served.topology.requests
        broker.ctl("set_policy", name, f"^{name}$", json.dumps({"max-length": 1}), "--apply-to", "queues")
        try:
            answers = [served.post() for _ in range(20)]
        finally:
            broker.ctl("clear_policy", name)
        assert {answer.status_code for answer in answers} == {202, 503}
        refused = next(answer for answer in answers if answer.status_code == 503)
        assert "full" in refused.json()["error"]["message"]
        kept = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        assert {job["id"] for job in served.client.get("/jobs", params={"limit": 100}).json()["jobs"]} == set(kept)


def test_it_starts_without_broker_and_response_daemon(tmp_path: Path) -> None:
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": "amqp://127.0.0.1:1",
        "STABLEDIFFUSIOND_RESPONSES__PORT": "1",
        "STABLEDIFFUSIOND_GATEWAY__STORE": str(tmp_path / "store"),
    }
    with gateway(environment) as daemon:
        daemon.wait_ready()
        address = f"http://127.0.0.1:{daemon.port()}"
        health = httpx.get(f"{address}/healthz", trust_env=False)
        assert (health.status_code, health.json()["healthy"]) == (503, False)
        assert httpx.post(f"{address}/jobs", json=BODY, trust_env=False).status_code == 503
        with gateway(environment) as second, pytest.raises(DaemonFailed, match="another gateway uses"):
            second.wait_ready()


def test_what_is_too_old_or_too_much_is_deleted(broker: PrivateBroker, tmp_path: Path, kept: Kept) -> None:
    with running(broker, tmp_path, kept.settings, kept.others) as served:
        made = [served.draw(seed=seed)["id"] for seed in range(4)]
        size = served.job(made[0])["images"][0]["bytes"]
        served.environment["STABLEDIFFUSIOND_GATEWAY__KEEP_BYTES"] = str(3 * size)
        served.restart()
        served.daemon.wait_log("jobs are not kept any longer")
        left = [job["id"] for job in served.client.get("/jobs").json()["jobs"]]
        assert left == made[-len(left) :][::-1]
        assert 0 < len(left) < 4
        served.environment["STABLEDIFFUSIOND_GATEWAY__KEEP_DAYS"] = "0.000001"
        served.restart()
        served.daemon.wait_log("jobs are not kept any longer")
        assert served.client.get("/jobs").json()["jobs"] == []


def test_it_never_loads_torch() -> None:
    program = "import sys, stablediffusiond.gateway.daemon as _; print({'torch', 'PIL', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_reload_changes_the_limits(broker: PrivateBroker, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("[gateway]\nmax_jobs = 1000\n")
    with running(broker, tmp_path) as served:
        served.environment["STABLEDIFFUSIOND_CONFIG"] = str(config)
        served.restart()
        config.write_text("[gateway]\nmax_jobs = 1\n")
        served.daemon.process.send_signal(signal.SIGHUP)
        served.daemon.wait_log("log and limits are as in the settings now")
        assert [served.post(body={**BODY, "steps": 100}).status_code for _ in range(2)] == [202, 429]
