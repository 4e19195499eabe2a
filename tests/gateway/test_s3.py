"""The store in a bucket of S3: a real server, which is killed, frozen, and not there at first."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import BODY, Running, running
from tests.gateway.s3_server import S3Server
from tests.preloaded import gateway
from tools.daemons import DaemonFailed
from tools.private_broker import PrivateBroker

IN_BASE64 = {"prompt": "a red cat", "size": "64x64", "steps": 10}


@pytest.fixture
def server(tmp_path: Path, free_port: int) -> Iterator[S3Server]:
    with S3Server(tmp_path / "s3", free_port) as started:
        yield started


@pytest.fixture
def served(broker: PrivateBroker, tmp_path: Path, server: S3Server) -> Iterator[Running]:
    with running(broker, tmp_path, {"store": server.store}, server.environment) as made:
        yield made


def test_all_that_is_kept_is_in_the_bucket(served: Running, server: S3Server) -> None:
    job = served.draw(id="cat", count=2, width=512, height=512)
    names = ["0.json", "0.png", "1.json", "1.png", "end.json", "job.json", "published"]
    assert server.objects() == ["identity.json", *(f"jobs/cat/{name}" for name in names)]
    assert not served.store.exists()
    for index, image in enumerate(job["images"]):
        stored = (server.folder / f"pictures/gateway/jobs/cat/{index}.png._S3rver_object").read_bytes()
        assert len(stored) == image["bytes"]
        for path in (f"/jobs/cat/images/{index}", image["url"]):
            answer = served.client.get(path)
            assert (answer.content, answer.headers["content-length"]) == (stored, str(len(stored)))
    answer = served.post("/v1/images/generations", {"prompt": "a red cat", "size": "512x512", "seed": 42, "steps": 10})
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == served.client.get("/jobs/cat/images/0").content
    answer = served.post("/sdapi/v1/txt2img", BODY)
    assert "Seed: 42," in json.loads(answer.json()["info"])["infotexts"][0]
    before = len(server.objects())
    assert served.client.delete("/jobs/cat").status_code == 204
    assert len(server.objects()) == before - len(names)


def test_what_was_being_deleted_or_begun_is_tidied_up(served: Running, server: S3Server) -> None:
    served.draw(id="whole")
    served.draw(id="broken")
    served.daemon.kill()
    (server.folder / "pictures/gateway/jobs/broken/job.json._S3rver_object").unlink()
    served.restart(kill=True)
    assert [job["id"] for job in served.client.get("/jobs").json()["jobs"]] == ["whole"]
    assert not [name for name in server.objects() if "broken" in name]


def test_a_bucket_that_is_away_is_said_and_loses_nothing(served: Running, server: S3Server) -> None:
    drawn = served.draw()
    assert served.post("/v1/images/generations", IN_BASE64, **{"Idempotency-Key": "drawn"}).status_code == 200
    jobs = [served.post(body={**BODY, "steps": 100, "seed": seed}).json()["id"] for seed in range(3)]
    server.kill()
    refused = served.post(**{"Idempotency-Key": "again"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert served.client.get(drawn["images"][0]["url"]).status_code == 503
    again = served.post("/v1/images/generations", IN_BASE64, **{"Idempotency-Key": "drawn"})
    assert (again.status_code, again.json()["error"]["code"]) == (503, "unavailable")
    served.daemon.wait_log("the store takes nothing")
    assert served.client.get("/healthz").status_code == 503
    assert all(not served.job(job)["images"] for job in jobs)
    server.start()
    for job in jobs:
        assert [event.name for event in served.events(job)][-1] == "done"
        assert len(served.client.get(f"/jobs/{job}/images/0").content) == served.job(job)["images"][0]["bytes"]
    served.daemon.wait_log("the store takes pictures again")
    assert served.daemon.log.count("the store takes nothing") == 1
    assert served.post(**{"Idempotency-Key": "again"}).status_code == 202
    assert served.client.get("/healthz").status_code == 200


def test_a_bucket_that_does_not_answer_is_not_waited_for(served: Running, server: S3Server) -> None:
    server.freeze()
    refused = served.post()
    assert (refused.status_code, "does not answer" in refused.text) == (503, True)


def test_pictures_that_could_not_be_kept_come_again_to_the_next_gateway(served: Running, server: S3Server) -> None:
    job = served.post(body={**BODY, "count": 2}).json()["id"]
    server.kill()
    served.daemon.wait_log("the store takes nothing")
    served.daemon.kill()
    server.start()
    served.restart(kill=True)
    assert served.events(job)[-1].name == "done"
    assert len(served.job(job)["images"]) == 2


def test_without_the_bucket_it_starts_and_waits_for_it(tmp_path: Path, free_port: int) -> None:
    server = S3Server(tmp_path / "s3", free_port)
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": "amqp://127.0.0.1:1",
        "STABLEDIFFUSIOND_GATEWAY__STORE": server.store,
        **server.environment,
    }
    with gateway(environment) as daemon:
        daemon.wait_ready()
        assert daemon.status == "waits for the store"
        address = f"http://127.0.0.1:{daemon.port()}"
        answer = httpx.get(f"{address}/healthz", trust_env=False, timeout=20)
        assert (answer.status_code, "the store cannot be used" in answer.text) == (503, True)
        with server:
            daemon.wait_status("takes jobs")
            answer = httpx.get(f"{address}/jobs", trust_env=False)
            assert (answer.status_code, answer.json()["jobs"]) == (200, [])


@pytest.mark.parametrize(
    ("store", "environment", "reason"),
    [
        ("s3://other/gateway", {}, "NoSuchBucket"),
        ("s3://pictures/gateway", {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
        ("s3://", {}, "store"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_said(
    server: S3Server, store: str, environment: dict[str, str], reason: str
) -> None:
    settings = {"STABLEDIFFUSIOND_CONFIG": "", "STABLEDIFFUSIOND_GATEWAY__STORE": store}
    with gateway({**settings, **server.environment, **environment}) as daemon:
        with pytest.raises(DaemonFailed, match="ended with 78"):
            daemon.wait_ready()
        assert reason in daemon.log
