"""The end of a job, posted where its body asks for, until it is taken."""

import base64
import hashlib
import hmac
import http.server
import json
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import BODY, Kept, Running, running
from tools.private_broker import PrivateBroker

SECRET = "sesame"
SETTINGS = {"webhook_hosts": '["127.0.0.1"]', "webhook_secret": SECRET}


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers posts with ``statuses``, in turn, and then with 204."""

    def __init__(self, *statuses: int) -> None:
        self.posts: queue.Queue[Post] = queue.Queue()
        self._statuses = list(statuses)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts.put(Post(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer._statuses.pop(0) if outer._statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def next(self) -> Post:
        return self.posts.get(timeout=30)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def posting(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(broker, tmp_path_factory.mktemp("webhooks"), SETTINGS) as made:
        yield made


def test_the_end_is_posted_and_signed(posting: Running) -> None:
    receiver = Receiver()
    job = posting.post(body={**BODY, "webhook": f"{receiver.address}/drawn?by=us"}).json()["id"]
    post = receiver.next()
    assert (post.path, post.headers["webhook-id"]) == ("/drawn?by=us", job)
    signed = f"{job}.{post.headers['webhook-timestamp']}.".encode() + post.body
    expected = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert post.headers["webhook-signature"] == f"v1,{expected}"
    said: dict[str, Any] = json.loads(post.body)
    assert (said["id"], said["state"], said["images"][0]["seed"]) == (job, "done", 42)
    receiver.close()


def test_one_that_is_not_taken_is_posted_again_and_no_redirection_is_followed(posting: Running) -> None:
    receiver = Receiver(500, 307)
    posting.post(body={**BODY, "prompt": "not a number", "webhook": receiver.address})
    posts = [receiver.next() for _ in range(3)]
    assert {post.path for post in posts} == {"/"}
    assert json.loads(posts[2].body)["error"]["code"] == "model_error"
    receiver.close()


def test_what_is_due_is_posted_by_the_next_gateway(broker: PrivateBroker, tmp_path: Path, kept: Kept) -> None:
    with running(broker, tmp_path, {**SETTINGS, **kept.settings}, kept.others) as served:
        receiver = Receiver(*[503] * 2)
        job = served.post(body={**BODY, "webhook": receiver.address}).json()["id"]
        receiver.next()
        served.restart(kill=True)
        receiver.next()
        assert receiver.next().headers["webhook-id"] == job
        while not kept.has(served, f"jobs/{job}/notified"):
            served.job(job)
        served.restart()
        assert served.draw()["state"] == "done"
        assert receiver.posts.empty()
        receiver.close()


@pytest.mark.parametrize(
    "webhook", ["http://elsewhere.example/", "ftp://127.0.0.1/", "http://me@127.0.0.1/", "127.0.0.1", "http://[", 7]
)
def test_an_address_that_is_not_allowed_is_refused(posting: Running, webhook: object) -> None:
    answer = posting.post(body={**BODY, "webhook": webhook})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "webhook")


def test_without_settings_for_it_there_are_none(served: Running) -> None:
    answer = served.post(body={**BODY, "webhook": "http://127.0.0.1/"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "webhook")
