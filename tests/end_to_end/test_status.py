"""``stablediffusion_client status`` and ``cancel``, by an ordinary client, with a daemon whose device only counts."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client
from stablediffusiond.settings import Settings
from tests.end_to_end.conftest import CHECKOUT, Operated, environment_of

LONG = {"prompt": "a red cat", "steps": 150, "count": 2}


@pytest.fixture
def client(operated: Operated) -> Iterator[Client]:
    with Client(operated.settings) as made:
        yield made


def test_where_nobody_draws_it_says_what_to_start(operated: Operated) -> None:
    nowhere = environment_of(operated.url, Topology("nobody", operated.topology.results))
    done = subprocess.run(
        [sys.executable, "-m", "stablediffusiond.cli", "status"],
        env=nowhere, cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "systemctl start stablediffusiond" in done.stdout
    assert re.search(rf"^{operated.topology.results} +\d", done.stdout, re.M)


def test_an_ordinary_client_sees_the_queues_the_daemon_and_its_jobs(operated: Operated, client: Client) -> None:
    job_id = client.enqueue({**LONG, "priority": "high"})
    operated.daemon.wait_log(f"job {job_id} begins").wait_status(r"^1 drawing, 0 waiting, \d+\.\d img/s$")
    status = operated.status()
    [worker] = status.workers
    assert (worker.pid, worker.model, worker.device) == (operated.daemon.process.pid, "doodle", "fake")
    assert [call.rows for call in worker.table] == [1, 2, 4, 8, 16, 32, 64]
    assert (worker.rows_at_a_time, worker.images_at_a_time) == (64, 32)
    [job] = worker.jobs
    assert (job.id, job.priority, job.state, job.steps, job.images) == (job_id, "high", "drawing", 300, 2)
    assert 0 < job.step < 300
    assert status.workers_connected == 1
    assert {role: queue.name for role, queue in status.queues.items()}["low"] == f"{operated.topology.requests}.low"
    assert {role: queue.consumers for role, queue in status.queues.items()} == {
        "high": 1, "normal": 1, "low": 1, "results": 0, "crashed": 1, "dead": 0, "unroutable": 0
    }  # fmt: skip

    shown = operated.run("status")[1]
    for words in (
        rf"{job_id} +high +\S+ +\d+/300 +0/2",
        r"doodle on fake, float32",
        r"rows +1 +2",
    ):
        assert re.search(words, shown), shown

    failed = worker.jobs_failed
    assert operated.run("cancel", job_id) == (0, "", "")
    operated.daemon.wait_log(f"job {job_id} failed: cancelled").wait_status("^0 drawing, 0 waiting")
    [after] = operated.status().workers
    assert (after.jobs, after.jobs_failed) == ([], failed + 1)


def test_models_says_what_requests_may_name(operated: Operated, client: Client) -> None:
    code, shown, _ = operated.run("models")
    assert code == 0
    for words in (r"^doodle  on \S+, fake, float32$", r"^  by itself    64x64, 50 steps, guidance 7.5, Euler$", r"LoRAs +ink +\(x; y, z\)$", r"IP-Adapters  plus$", r"VAEs +soft$"):
        assert re.search(words, shown, re.M), shown
    said = json.loads(operated.run("models", "--json")[1])
    assert (said["model"], said["tasks"], said["controlnets"]) == ("doodle", ["txt2img"], ["edges"])
    typed = {"COMP_WORDS": "stablediffusion_client cat --control E", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-m", "stablediffusiond.cli"], cwd=CHECKOUT, capture_output=True, text=True, check=True,
        env={**environment_of(operated.url, operated.topology), **typed, "_STABLEDIFFUSION_CLIENT_COMPLETE": "bash_complete"},
    )  # fmt: skip
    assert done.stdout == "plain,edges\n"
    [worker] = client.status().workers
    assert worker.offer is None, "it looks into files, and only where it was asked for"
    nowhere = environment_of(operated.url, Topology("nobody", operated.topology.results))
    done = subprocess.run(
        [sys.executable, "-m", "stablediffusiond.cli", "models"],
        env=nowhere, cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "no request daemon has answered" in done.stderr


def test_what_was_drawn_is_counted(operated: Operated, client: Client) -> None:
    [before] = client.status().workers
    job_id = client.enqueue(prompt="cat", steps=2, count=3)
    operated.daemon.wait_log(f"job {job_id} done").wait_status(r"^0 drawing, 0 waiting, 0\.[1-9] img/s$")
    [after] = client.status().workers
    assert (after.images_total - before.images_total, after.jobs_done - before.jobs_done) == (3, 1)
    assert 0 < after.images_per_second <= 3


def publish(client: Client, message: Message, routing_key: str = "", exchange: str = "") -> None:
    """What a foreign client may say over this one's connection."""
    client._loop.run(client._core._submitter.publish(message, routing_key, exchange=exchange))


def test_the_queue_says_how_urgent_a_job_is(operated: Operated, client: Client) -> None:
    """And not the body, which foreign clients leave as it is."""
    where = operated.topology.request_queue("low")
    body = json.dumps({**LONG, "id": "foreign"}).encode()
    with Client(Settings.model_validate({"broker": {"url": operated.broker.url}})) as foreign:
        publish(foreign, Message(body, message_id="foreign"), where)
    operated.daemon.wait_log("job foreign begins")
    [worker] = client.status().workers
    assert [(job.id, job.priority) for job in worker.jobs] == [("foreign", "low")]
    client.cancel("foreign")
    operated.daemon.wait_log("job foreign failed: cancelled")


def test_a_daemon_that_hangs_is_counted_and_not_listed(operated: Operated, client: Client) -> None:
    os.kill(operated.daemon.process.pid, signal.SIGSTOP)
    try:
        status = client.status()
    finally:
        os.kill(operated.daemon.process.pid, signal.SIGCONT)
    assert (status.workers, status.workers_connected, status.no_daemon_runs) == ([], 1, False)


def test_a_question_that_cannot_be_answered_ends_nothing(operated: Operated, client: Client) -> None:
    for body, reply_to in (
        (b'{"status": true}', None),
        (b'{"status": true}', operated.topology.requests),
        (b"{}", None),
    ):
        publish(client, Message(body, reply_to=reply_to), exchange=operated.topology.control)
    operated.daemon.wait_log("a control message is not understood")
    [worker] = client.status().workers
    assert worker.jobs == []


def test_it_may_be_watched(operated: Operated) -> None:
    command = [sys.executable, "-m", "stablediffusiond.cli", "status", "--watch"]
    screen, end = pty.openpty()
    people = subprocess.Popen(command, env={**operated.environment, "TERM": "xterm"}, cwd=CHECKOUT, stdout=end)
    script = subprocess.Popen(
        [*command, "--json"], env=operated.environment, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    os.close(end)
    assert script.stdout is not None
    seen: list[Any] = [json.loads(script.stdout.readline()) for _ in range(2)]
    assert seen[0]["workers"][0]["uptime_seconds"] < seen[1]["workers"][0]["uptime_seconds"]
    shown = ""
    while shown.count("img/s in the last minute") < 2:
        shown += os.read(screen, 65536).decode()
    reading = threading.Thread(target=read_to_the_end, args=(screen,))
    reading.start()  # a screen that nobody looks at any more is full one day
    for process in (people, script):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    reading.join()
    os.close(screen)
    script.stdout.close()


def read_to_the_end(screen: int) -> None:
    with contextlib.suppress(OSError):  # nobody writes to it any more
        while os.read(screen, 65536):
            pass


def test_an_alarm_is_told_from_daemons_that_are_away(operated: Operated, client: Client) -> None:
    operated.broker.ctl("set_vm_memory_high_watermark", "0.0000001")
    try:
        while not (status := client.status()).publishes_blocked:
            pass  # it takes the broker a moment to notice
    finally:
        operated.broker.ctl("set_vm_memory_high_watermark", "0.4")
    assert (status.publishes_blocked, status.workers, status.queues["dead"].messages) == (True, [], 0)


def test_a_broker_that_is_away_ends_with_three(operated: Operated, free_port: int) -> None:
    away = environment_of(f"amqp://127.0.0.1:{free_port}/", operated.topology)
    done = subprocess.run([sys.executable, "-m", "stablediffusiond.cli", "status"], env=away, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
