"""A job that nobody waits for any longer is cancelled by the command: out of time, Ctrl-C, a picture that cannot be written."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.running import Run


def test_out_of_time_cancels_the_job(run: Run, daemons: FakeDaemons) -> None:
    cancels = watch_cancels(daemons)
    running = run("cat", "--timeout", "0.5")
    request = daemons.take()
    assert cancels() == {"cancel": request.id}
    daemons.fail(request, "cancelled", "as you like")
    code, out, err = running.end()
    assert (code, out) == (4, b"")
    assert "in the time given" in err


def test_control_c_cancels_the_job(run: Run, daemons: FakeDaemons, responses: FakeResponses) -> None:
    cancels = watch_cancels(daemons)
    running = run("cat", "--json")
    request = daemons.take()
    assert running.process.stdout is not None
    assert json.loads(running.process.stdout.readline())["id"] == request.id
    running.process.send_signal(signal.SIGINT)
    assert cancels() == {"cancel": request.id}
    daemons.fail(request, "cancelled", "as you like")
    code, _, err = running.end()
    assert code == 130
    assert f"cancelling job {request.id}" in err
    assert "Traceback" not in err
    assert responses.unacked(request.reply_to) == []


def test_a_second_control_c_does_not_wait_for_the_daemon(run: Run, daemons: FakeDaemons) -> None:
    cancels = watch_cancels(daemons)
    running = run("cat")
    daemons.take()
    running.process.send_signal(signal.SIGINT)
    cancels()
    running.process.send_signal(signal.SIGINT)
    code, _, err = running.end()
    assert code == 130
    assert "Traceback" not in err


def test_a_picture_that_cannot_be_written_cancels_the_job(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    cancels = watch_cancels(daemons)
    folder = tmp_path / "folder"
    folder.mkdir()
    running = run("cat", "--count", "2", "-o", "folder/cat.png")
    request = daemons.take()
    folder.rmdir()
    daemons.draw(request, 0, count=2)
    assert cancels() == {"cancel": request.id}
    daemons.fail(request, "cancelled", "as you like")
    code, _, err = running.end()
    assert code == 74
    assert "cannot write folder/cat-0.png" in err


def test_a_full_disk_behind_standard_output_cancels_the_job(
    run: Run, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    cancels = watch_cancels(daemons)
    with Path("/dev/full").open("wb") as full:
        running = run("cat", "-o", "-", stdout=full.fileno())
    request = daemons.take()
    daemons.draw(request, 0)
    assert cancels() == {"cancel": request.id}
    daemons.fail(request, "cancelled", "as you like")
    code, _, err = running.end()
    assert code == 74
    assert err.splitlines() == [
        f"stablediffusion_client: cancelling job {request.id}",
        "stablediffusion_client: cannot write to standard output: No space left on device",
    ]
    assert responses.unacked(request.reply_to) == []


def test_a_full_disk_behind_a_file_leaves_nothing_of_it(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    """A limit to the size of files stands for it: the system says no after some bytes."""
    (tmp_path / "cat.png").write_bytes(b"the old picture")
    cancels = watch_cancels(daemons)
    running = run("cat", "-o", "cat.png")
    request = daemons.take()
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (10, 10))
    daemons.draw(request, 0)
    assert cancels() == {"cancel": request.id}
    daemons.fail(request, "cancelled", "as you like")
    code, out, err = running.end()
    assert (code, out) == (74, b"")
    assert err.splitlines()[-1] == "stablediffusion_client: cannot write cat.png: File too large"
    assert (tmp_path / "cat.png").read_bytes() == b"the old picture"
    assert os.listdir(tmp_path) == ["cat.png"]


def test_jobs_are_cancelled_by_their_ids(run: Run, daemons: FakeDaemons) -> None:
    cancels = watch_cancels(daemons)
    assert run("cancel", "one", "two").end() == (0, b"", "")
    assert [cancels(), cancels()] == [{"cancel": "one"}, {"cancel": "two"}]


def watch_cancels(daemons: FakeDaemons) -> Callable[[], dict[str, str]]:
    """What comes over the control exchange from now on."""
    queue = daemons.channel.queue_declare("", exclusive=True).method.queue
    daemons.channel.queue_bind(queue, daemons.topology.control)
    deliveries = daemons.channel.consume(queue, auto_ack=True, inactivity_timeout=PATIENCE_SECONDS)

    def first() -> dict[str, str]:
        _, _, body = next(deliveries)
        assert body is not None, "nothing was cancelled"
        cancel: dict[str, str] = json.loads(body)
        return cancel

    return first
