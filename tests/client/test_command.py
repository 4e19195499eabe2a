import json
import os
import pty
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stablediffusiond.cli.command import COMMANDS
from stablediffusiond.settings import Settings
from tests.client.fake_daemons import PATIENCE_SECONDS, FakeDaemons, FakeResponses, png
from tests.client.running import Running

Run = Callable[..., Running]


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    return lambda *arguments, **more: Running(settings, tmp_path, *arguments, **more)


def finish(daemons: FakeDaemons, images: int = 1) -> str:
    """Answer the next request with so many pictures; returns the job's id."""
    request = daemons.take()
    daemons.draw(request, *range(images), count=images)
    daemons.finish(request)
    return request.id


def test_json_is_put_into_the_queue_and_its_id_is_printed(run: Run, daemons: FakeDaemons) -> None:
    code, out, err = run('{"prompt": "cat", "seed": 42}').end()
    request = daemons.take()
    assert (code, out.decode(), err) == (0, f"{request.id}\n", "")
    assert (request.fields["prompt"], request.fields["seed"]) == ("cat", 42)
    assert request.properties.reply_to is None


def test_the_id_may_be_had_as_json(run: Run, daemons: FakeDaemons) -> None:
    _, out, _ = run('{"prompt": "cat"}', "--json").end()
    assert json.loads(out) == {"type": "submitted", "id": daemons.take().id}


def test_a_prompt_is_drawn_and_written(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    running = run("a red cat", "--seed", "42", "-o", "cat.png")
    finish(daemons)
    assert running.end() == (0, b"cat.png\n", "")
    assert (tmp_path / "cat.png").read_bytes() == png(0)
    assert os.listdir(tmp_path) == ["cat.png"]


def test_its_title_holds_no_password_while_it_waits(run: Run, daemons: FakeDaemons, settings: Settings) -> None:
    password = urlsplit(settings.broker.url.get_secret_value()).password
    assert password
    running = run("a red cat")
    request = daemons.take()
    title = Path(f"/proc/{running.process.pid}/cmdline").read_text()
    assert "a red cat" in title
    assert password not in title
    daemons.draw(request, 0)
    daemons.finish(request)
    assert running.end()[0] == 0


def test_without_output_a_picture_is_named_after_its_job(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    running = run("cat")
    job_id = finish(daemons)
    assert running.end() == (0, f"{job_id}.png\n".encode(), "")
    assert (tmp_path / f"{job_id}.png").exists()


def test_json_is_waited_for_when_asked(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    for asked in (("--wait",), ("-o", "cat.png"), ("--timeout", "60")):
        running = run('{"prompt": "cat", "id": "mine"}', *asked)
        finish(daemons)
        code, out, _ = running.end()
        assert (code, out) == (0, b"cat.png\n" if "-o" in asked else b"mine.png\n")


def test_a_prompt_may_be_left_in_the_queue(run: Run, daemons: FakeDaemons) -> None:
    code, out, _ = run("cat", "--no-wait").end()
    assert (code, out.decode()) == (0, f"{daemons.take().id}\n")


def test_several_pictures_are_numbered(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    running = run("cat", "--count", "2", "-o", "cat.png")
    finish(daemons, 2)
    assert running.end() == (0, b"cat-0.png\ncat-1.png\n", "")
    assert (tmp_path / "cat-1.png").read_bytes() == png(1)


def test_every_field_of_a_request_is_an_option(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    (tmp_path / "init.png").write_bytes(png(3))
    options = {
        "negative_prompt": "dog", "seed": "7", "count": "2", "steps": "20", "guidance_scale": "5.5", "sampler": "DDIM",
        "width": "512", "height": "640", "strength": "0.5", "eta": "0.25", "deadline_seconds": "60", "id": "mine",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    code, _, err = run("cat", "--no-wait", "--image", "init.png", "--priority", "low", *arguments).end()
    assert (code, err) == (0, "")
    fields = daemons.take(f"{daemons.topology.requests}.low").fields
    assert {name: str(fields[name]).removesuffix(".0") for name in options} == options
    assert fields["type"] == "img2img"
    assert fields["image"].startswith("iVBOR")


def test_options_stand_over_the_fields_of_json(run: Run, daemons: FakeDaemons) -> None:
    run('{"prompt": "cat", "seed": 1}', "--seed", "2").end()
    assert daemons.take().fields["seed"] == 2


def test_a_dash_reads_the_prompt_from_standard_input(run: Run, daemons: FakeDaemons) -> None:
    run("-", "--no-wait").end("eine rote Kätzin\n".encode())
    assert daemons.take().fields["prompt"] == "eine rote Kätzin"
    run("-").end(b'{"prompt": "cat"}\n')
    assert daemons.take().fields["prompt"] == "cat"


def test_a_dash_as_output_is_standard_output(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    running = run("cat", "-o", "-")
    finish(daemons)
    assert running.end() == (0, png(0), "")
    assert os.listdir(tmp_path) == []


def test_scripts_read_lines_of_json(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    running = run("cat", "--json", "--seed", "5")
    request = daemons.take()
    daemons.progress(request, 3, 50)
    daemons.draw(request, 0)
    daemons.finish(request)
    code, out, err = running.end()
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert lines[0] == {"type": "submitted", "id": request.id}
    said = {line["type"]: line for line in lines}
    assert said["progress"] == {"type": "progress", "id": request.id, "step": 3, "steps": 50}
    assert (said["image"]["seed"], said["image"]["job_type"]) == (5, "txt2img")
    assert (tmp_path / said["image"]["path"]).read_bytes() == png(0)
    assert lines[-1]["type"] == "done"


def test_a_terminal_sees_a_progress_bar(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    running = run("a [red] cat", "-o", "cat.png", stderr=end)
    os.close(end)
    request = daemons.take()
    daemons.progress(request, 25, 50)
    daemons.draw(request, 0)
    daemons.finish(request)
    code, out, _ = running.end()
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert (code, out) == (0, b"cat.png\n")
    assert "a [red] cat" in shown
    assert "50%" in shown


def test_paths_and_the_bar_share_a_terminal(run: Run, daemons: FakeDaemons) -> None:
    terminal, end = pty.openpty()
    running = run("cat " * 100, "--count", "2", "-o", "cat.png", stdout=end, stderr=end)
    os.close(end)
    finish(daemons, 2)
    assert running.end()[0] == 0
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    for name in ("cat-0.png", "cat-1.png"):
        assert re.search(rf"(^|\n|\x1b\[2K){name}\r\n", shown)
    assert "cat " * 20 not in shown


def test_ignored_fields_are_told(run: Run, daemons: FakeDaemons) -> None:
    code, _, err = run('{"prompt": "cat", "ckpt": "x"}').end()
    assert (code, err) == (0, "stablediffusion_client: 'ckpt' is accepted and ignored\n")


def test_a_failed_job_is_told_with_its_reason(run: Run, daemons: FakeDaemons) -> None:
    running = run("cat", "--id", "mine")
    daemons.fail(daemons.take(), "out_of_memory", "too large for this device")
    assert running.end() == (
        1, b"", "stablediffusion_client: job mine failed (out_of_memory): too large for this device\n"
    )  # fmt: skip


def test_what_the_daemon_calls_invalid_is_an_invalid_request(run: Run, daemons: FakeDaemons) -> None:
    running = run("cat")
    daemons.fail(daemons.take(), "invalid_request", "'steps' must be at most 20")
    assert running.end() == (2, b"", "stablediffusion_client: 'steps' must be at most 20\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cat", "--steps", "many"), "'steps' must be a valid integer"),
        (("cat", "--sampler", "eular"), "did you mean"),
        (('{"prompt": "cat"',), "not JSON"),
        (('{"prompt": "cat", "stps": 3}',), "did you mean 'steps'"),
        (('{"prompt": "cat", "ddim_steps": 3}', "--steps", "4"), "mean the same and differ"),
        (("cat", "--stps", "3"), "No such option"),
        ((), "Missing argument 'PROMPT'"),
        (("cat", "--no-wait", "-o", "cat.png"), "leave --no-wait out"),
        (("cat", "-o", "-", "--json"), "not both"),
        (("cat", "-o", "-", "--count", "2"), "writes one picture"),
        (("cat", "-o", "nowhere/cat.png"), "cannot write into"),
        (("cat", "-o", "{date}.png"), "unknown {date}; known: {id}, {index}, {seed}"),
        (("cat", "-o", "{id.png"), "write {{ for a brace"),
        (("cat", "-o", "{seed:x", "--seed", "1"), "write {{ for a brace"),
        (("cat", "--image", "nowhere.png"), "cannot read nowhere.png"),
        (("cat", "--timeout", "0"), "--timeout"),
        (("cat\udcff",), "not UTF-8"),
    ],
)
def test_what_cannot_work_is_told_in_one_line_before_anything_is_sent(
    run: Run, daemons: FakeDaemons, responses: FakeResponses, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = run(*arguments).end()
    assert (code, out) == (2, b"")
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("stablediffusion_client: ")
    assert daemons.waiting() == 0
    assert responses.listens.empty()


def test_a_prompt_on_standard_input_has_to_be_text(run: Run, daemons: FakeDaemons) -> None:
    code, _, err = run("-").end(b"\xff")
    assert code == 2
    assert "standard input is not UTF-8" in err


def test_json_with_a_byte_order_mark_on_standard_input_is_no_prompt(run: Run, daemons: FakeDaemons) -> None:
    code, out, err = run("-").end(b'\xef\xbb\xbf{"prompt": "cat", "seed": 42}\r\n')
    request = daemons.take()
    assert (code, out.decode(), err) == (0, f"{request.id}\n", "")
    assert (request.fields["prompt"], request.fields["seed"]) == ("cat", 42)


def test_daemons_that_are_away_end_with_three(run: Run, daemons: FakeDaemons, responses: FakeResponses) -> None:
    responses.leave()
    code, _, err = run("cat").end()
    assert code == 3
    assert "is stablediffusion_responsed running there?" in err
    assert daemons.waiting() == 0


def test_a_broker_that_is_away_ends_with_three(settings: Settings, tmp_path: Path, free_port: int) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(f'[broker]\nurl = "amqp://guest:guest@127.0.0.1:{free_port}/%2F"\n')
    running = Running(settings, tmp_path, "env", "--config", str(config))
    assert running.end()[0] == 3


def test_settings_that_cannot_work_end_with_seventy_eight(run: Run, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("[brokr]\n")
    code, _, err = run("cat", "--config", "settings.toml").end()
    assert code == 78
    assert "did you mean 'broker'?" in err


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


@pytest.mark.parametrize("arguments", [('{"prompt": "cat"}',), ("status",), ("status", "--json"), ("--help",)])
def test_whatever_is_said_to_a_full_disk(run: Run, daemons: FakeDaemons, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = run(*arguments, stdout=full.fileno()).end()
    assert code == 74
    [line] = err.splitlines()
    assert line.endswith("cannot write to standard output: No space left on device")


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


def test_a_word_that_is_a_command_can_be_drawn(run: Run, daemons: FakeDaemons) -> None:
    for arguments in (("--no-wait", "--", "status"), ("--no-wait", "cancel"), ("cancel it", "--no-wait")):
        assert run(*arguments).end()[0] == 0
        assert daemons.take().fields["prompt"] == arguments[-1 if arguments[0].startswith("-") else 0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cancel",), "stablediffusion_client cancel: Missing argument 'ID...'"),
        (("status", "--seed", "3"), "stablediffusion_client status: No such option"),
    ],
)
def test_commands_are_as_strict_as_drawing(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, err = run(*arguments).end()
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


def test_help_teaches(run: Run, settings: Settings) -> None:
    code, out, err = run("--help").end()
    text = out.decode()
    assert (code, err) == (0, "")
    for taught in ("Examples:", "Exit codes:", "[default: 50]", "--guidance-scale", "{seed}", "130", *COMMANDS):
        assert taught in text
    assert "Pydantic" not in text


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
