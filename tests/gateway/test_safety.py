"""Who is let in, and how much of anything."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import BODY, Running, running
from tests.preloaded import gateway
from tools.daemons import DaemonFailed
from tools.private_broker import PrivateBroker

ALICE, BOB, BOSS = "a" * 16, "b" * 16, "c" * 16


@pytest.fixture(scope="module")
def guarded(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("guarded")
    tokens = folder / "tokens"
    tokens.write_text(f"# role name token\ndraw alice {ALICE}\ndraw bob {BOB}\noperate boss {BOSS}\n")
    limits = {"max_body_bytes": "100000", "max_jobs": "2", "url_seconds": "1", "max_connections": "20"}
    pages = {"allowed_origins": '["https://pages.example"]', "allowed_hosts": '["pictures.example"]'}
    with running(broker, folder, {"token_file": str(tokens), **limits, **pages}) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_is_asked_for(guarded: Running) -> None:
    for headers in ({}, bearer("d" * 16), bearer("-"), {"Authorization": "Basic !"}, {"Authorization": ALICE[:-1]}):
        for path in ("/jobs", "/status", "/v1/models", "/sdapi/v1/options"):
            assert guarded.client.get(path, headers=headers).status_code == 401
    assert guarded.client.get("/jobs", headers=bearer(ALICE)).status_code == 200
    assert guarded.client.get("/sdapi/v1/options", auth=("anybody", ALICE)).status_code == 200
    assert guarded.client.get("/healthz").status_code == 200


def test_clients_see_their_own_jobs_and_operators_all(guarded: Running) -> None:
    answer = guarded.client.post("/jobs", json=BODY, headers=bearer(ALICE))
    job = answer.json()["id"]
    for path in (f"/jobs/{job}", f"/jobs/{job}/events", f"/jobs/{job}/images/0"):
        assert guarded.client.get(path, headers=bearer(BOB)).status_code == 404
    assert guarded.client.delete(f"/jobs/{job}", headers=bearer(BOB)).status_code == 404
    assert guarded.client.get("/jobs", headers=bearer(BOB)).json()["jobs"] == []
    for token in (ALICE, BOSS):
        assert [each["id"] for each in guarded.client.get("/jobs", headers=bearer(token)).json()["jobs"]] == [job]
    key = {"Idempotency-Key": "one"}
    made = [guarded.client.post("/jobs", json=BODY, headers={**bearer(each), **key}).json() for each in (ALICE, BOB)]
    assert made[0]["id"] != made[1]["id"]
    assert guarded.client.post("/jobs", json={**BODY, "id": job}, headers=bearer(BOB)).status_code == 409
    for each, token in ((job, ALICE), (made[0]["id"], ALICE), (made[1]["id"], BOB)):
        guarded.events(each, **bearer(token))


def test_ids_of_jobs_are_for_operators(guarded: Running) -> None:
    job = guarded.client.post("/jobs", json={**BODY, "steps": 150}, headers=bearer(ALICE)).json()["id"]
    guarded.client.get(f"/jobs/{job}/images/0", headers=bearer(ALICE))
    for token, seen in ((BOB, False), (BOSS, True)):
        jobs = guarded.client.get("/status", headers=bearer(token)).json()["workers"][0]["jobs"]
        assert [("id" in each) for each in jobs] == [seen] * len(jobs)
    guarded.events(job, **bearer(ALICE))


def test_the_address_of_a_picture_needs_no_token_and_ends(guarded: Running) -> None:
    job = guarded.client.post("/jobs", json=BODY, headers=bearer(ALICE)).json()["id"]
    image = next(event for event in guarded.events(job, **bearer(ALICE)) if event.name == "image")
    url = httpx.URL(image.data["url"])
    assert guarded.client.get(url).status_code == 200
    assert guarded.client.get(url.copy_set_param("until", str(int(url.params["until"]) + 1))).status_code == 404
    assert guarded.client.get(url.copy_set_param("key", "0" * 64)).status_code == 404
    assert guarded.client.get(url.copy_with(path=url.path.replace("0.png", "job.json"))).status_code == 404
    while (ended := guarded.client.get(url)).status_code == 200:
        continue
    assert (ended.status_code, "ended" in ended.text) == (404, True)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:50008", "", "a b", "localhost.evil.example"])
def test_a_name_that_is_not_ours_is_refused(guarded: Running, host: str) -> None:
    assert guarded.client.get("/healthz", headers={"Host": host}).status_code in {400, 403}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:50008", "[::1]:1", "pictures.example", "PICTURES.example."])
def test_a_name_of_ours_is_taken(guarded: Running, host: str) -> None:
    assert guarded.client.get("/healthz", headers={"Host": host}).status_code == 200


def test_two_names_are_refused(guarded: Running) -> None:
    with socket.create_connection(("127.0.0.1", guarded.daemon.port())) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(100).split()[1] in {b"400", b"403"}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "https://pages.example.evil"])
def test_a_page_of_another_site_is_refused(guarded: Running, origin: str) -> None:
    answer = guarded.client.post("/jobs", json=BODY, headers={**bearer(ALICE), "Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert guarded.client.options("/jobs", headers=preflight).status_code == 403


def test_a_page_that_the_settings_name_may(guarded: Running) -> None:
    origin = {"Origin": "https://pages.example"}
    preflight = guarded.client.options("/jobs", headers={**origin, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    answer = guarded.client.get("/jobs", headers={**bearer(ALICE), **origin})
    assert answer.headers["access-control-allow-origin"] == "https://pages.example"


def test_our_own_page_may_and_others_may_not_show_our_pictures(guarded: Running) -> None:
    answer = guarded.client.get("/jobs", headers={**bearer(ALICE), "Origin": guarded.address})
    assert answer.status_code == 200
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_not_read(guarded: Running, announced: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", guarded.daemon.port(), timeout=20)
    large = b'{"prompt": "' + b"x" * 200_000 + b'"}'
    body = large if announced else iter([large[:100_000], large[100_000:]])
    connection.request("POST", "/jobs", body, bearer(ALICE), encode_chunked=not announced)
    assert connection.getresponse().status == 413
    connection.close()


def test_an_upload_that_is_too_large_is_not_read(guarded: Running) -> None:
    files = {"image": ("cat.png", b"x" * 200_000)}
    answer = guarded.client.post("/v1/images/edits", files=files, data={"prompt": "x"}, headers=bearer(ALICE))
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"


def test_only_so_many_jobs_of_one_client_are_under_way(guarded: Running) -> None:
    slow = {**BODY, "steps": 150}
    answers = [guarded.client.post("/jobs", json=slow, headers=bearer(BOB)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].headers["retry-after"]
    other = guarded.client.post("/jobs", json=BODY, headers=bearer(ALICE))
    assert other.status_code == 202
    for answer in answers[:2]:
        guarded.client.delete(f"/jobs/{answer.json()['id']}", headers=bearer(BOB))
        guarded.events(answer.json()["id"], **bearer(BOB))
    guarded.events(other.json()["id"], **bearer(ALICE))


def test_only_so_many_clients_are_connected(guarded: Running) -> None:
    idle = [socket.create_connection(("127.0.0.1", guarded.daemon.port())) for _ in range(20)]
    try:
        with guarded.client_with() as other:
            assert other.get("/healthz").status_code == 503
    finally:
        for each in idle:
            each.close()
        with guarded.client_with() as other:
            while other.get("/healthz").status_code == 503:
                continue


def test_no_address_in_a_request_is_fetched(guarded: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bait:
        url = f"http://127.0.0.1:{bait.getsockname()[1]}/cat.png"
        bodies = {
            "/jobs": {"prompt": "x", "image": url},
            "/sdapi/v1/img2img": {"prompt": "x", "init_images": [url]},
            "/sdapi/v1/png-info": {"image": url},
            "/sdapi/v1/extra-single-image": {"image": url},
        }
        for path, body in bodies.items():
            assert guarded.client.post(path, json=body, headers=bearer(ALICE)).status_code == 400
        form = {"prompt": "x", "image": url}
        assert guarded.client.post("/v1/images/edits", data=form, headers=bearer(ALICE)).status_code == 400
        bait.settimeout(0)
        with pytest.raises(BlockingIOError):
            bait.accept()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": "0.0.0.0"}, "not on loopback"),
        ({"token": "short"}, "16 characters"),
        ({"token_file": "{folder}/missing"}, "token_file"),
        ({"token_file": "{folder}/bad"}, "the role is draw or operate"),
        ({"store": "/proc/nowhere"}, "store"),
    ],
)
def test_settings_that_cannot_work_are_said(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    (tmp_path / "bad").write_text(f"everything alice {ALICE}\n")
    values = {"store": str(tmp_path / "store"), **settings}
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        **{f"STABLEDIFFUSIOND_GATEWAY__{key.upper()}": value.format(folder=tmp_path) for key, value in values.items()},
    }
    with gateway(environment) as daemon:
        with pytest.raises(DaemonFailed, match="ended with 78"):
            daemon.wait_ready()
        assert reason in daemon.log
        assert ALICE not in daemon.log


def test_with_a_token_it_may_be_reached_from_elsewhere(tmp_path: Path) -> None:
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_GATEWAY__STORE": str(tmp_path / "store"),
        "STABLEDIFFUSIOND_GATEWAY__HOST": "0.0.0.0",
        "STABLEDIFFUSIOND_GATEWAY__TOKEN": ALICE,
    }
    with gateway(environment) as daemon:
        daemon.wait_ready()
