"""A client that was used before a fork: in the child it begins anew, and its parent does not notice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pika

from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons, TakenRequest
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.proxy import Proxy
from tests.client.running import ROOT, environment


@contextlib.contextmanager
def program(settings: Settings, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A program of the folder ``forking``."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT, env={**environment(settings), **more}, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    hung = threading.Timer(2 * PATIENCE_SECONDS, end, [started.pid])
    hung.start()
    try:
        yield started
    finally:
        hung.cancel()
        end(started.pid)
        started.communicate()


def end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def line(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    line = started.stdout.readline()
    assert line, started.communicate()[1]
    return line.strip()


def go_on(started: subprocess.Popen[str]) -> None:
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()


def answer(daemons: FakeDaemons, request: TakenRequest) -> None:
    daemons.draw(request, 0)
    daemons.finish(request)


def exists(daemons: FakeDaemons, queue: str) -> bool:
    try:
        daemons._connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    return True


def test_processes_of_multiprocessing_and_plain_forks(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    children = 4
    with program(through_proxy, "-W", "error", "-m", "tests.client.forking.processes") as started:
        queue = line(started)
        daemons.channel.queue_declare(queue, durable=True)
        of_parent = daemons.take()
        go_on(started)
        for _ in range(children):
            answer(daemons, daemons.take())
        seen = json.loads(line(started))
        assert {tuple(each["events"]) for each in seen} == {("Image", "Done")}
        assert len({each["process"] for each in seen}) == children
        assert len({queue, *(each["queue"] for each in seen)}) == children + 1
        assert all(f"job {of_parent.id} was submitted by process {started.pid}" in each["refusal"] for each in seen)
        assert exists(daemons, queue)
        answer(daemons, of_parent)
        go_on(started)
        assert json.loads(line(started)) == ["Image", "Done"]
        assert started.wait(PATIENCE_SECONDS) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""
    assert not exists(daemons, queue)
    assert responses.listens.qsize() == proxy.accepted == children + 1  # nobody had to connect again


def test_an_event_loop_that_forks(settings: Settings, daemons: FakeDaemons, responses: FakeResponses) -> None:
    with program(settings, "-W", "error", "-m", "tests.client.forking.coroutines") as started:
        of_parent, of_child = daemons.take(), daemons.take()
        answer(daemons, of_child)
        seen = json.loads(line(started))
        assert (seen["events"], seen["queue"]) == (["Image", "Done"], of_child.reply_to)
        assert f"job {of_parent.id} was submitted by process {started.pid}" in seen["refusal"]
        answer(daemons, of_parent)
        go_on(started)
        assert json.loads(line(started)) == ["Image", "Done"]
        assert started.wait(PATIENCE_SECONDS) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""
    assert of_parent.reply_to != of_child.reply_to
    assert responses.listens.qsize() == 2


def test_the_workers_of_celery(settings: Settings, daemons: FakeDaemons) -> None:
    broker = settings.broker.url.get_secret_value()
    worker = ("-m", "celery", "-A", "tests.client.forking.tasks", "worker", "--pool", "prefork", "--concurrency", "2")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING")
    with (
        program(settings, *worker, *quiet, CELERY_BROKER=broker),
        program(settings, "-m", "tests.client.forking.ask", CELERY_BROKER=broker) as asking,
    ):
        of_parent = daemons.take()
        taken = [daemons.take(), daemons.take()]
        for request in taken:
            answer(daemons, request)
        returned = json.loads(line(asking))
    assert {queue for _, queue in returned} == {request.reply_to for request in taken}
    assert len({process for process, _ in returned}) == 2
    assert of_parent.reply_to not in {request.reply_to for request in taken}


def test_the_workers_of_gunicorn(settings: Settings, daemons: FakeDaemons, free_port: int) -> None:
    arguments = ("--preload", "--workers", "2", "--bind", f"127.0.0.1:{free_port}", "tests.client.forking.web")
    with program(settings, "-m", "gunicorn", *arguments), ThreadPoolExecutor() as pool:
        of_parent = daemons.take()
        asking = [pool.submit(get, f"http://127.0.0.1:{free_port}/") for _ in range(2)]
        taken = [daemons.take(), daemons.take()]  # both are under way, so each has a worker of its own
        for request in taken:
            answer(daemons, request)
        returned = [json.loads(asked.result(PATIENCE_SECONDS)) for asked in asking]
    assert {queue for _, queue in returned} == {request.reply_to for request in taken}
    assert len({process for process, _ in returned}) == 2
    assert of_parent.reply_to not in {request.reply_to for request in taken}


def get(url: str) -> bytes:
    """Its body; waits until the server listens."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=2 * PATIENCE_SECONDS) as answered:
                body: bytes = answered.read()
                return body
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
            threading.Event().wait(0.1)
    raise AssertionError(f"nobody listens at {url}")
