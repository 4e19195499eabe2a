"""What does not work is told in one line, and by the exit code."""

from pathlib import Path

import pytest

from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import FakeResponses
from tests.client.running import Run, Running


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
    ("arguments", "expected"),
    [
        (("cat", "--steps", "many"), "'steps' must be a valid integer"),
        (("cat", "--sampler", "eular"), "did you mean"),
        (('{"prompt": "cat"',), "not JSON"),
        (('{"prompt": "cat", "stps": 3}',), "did you mean 'steps'"),
        (('{"prompt": "cat", "ddim_steps": 3}', "--steps", "4"), "mean the same and differ"),
        (("cat", "--stps", "3"), "No such option"),
        ((), "Missing argument 'PROMPT'"),
        (("--like", "nowhere.png"), "'nowhere.png' cannot be read: No such file"),
        (("cat", "--format", "gif"), "must be png, jpeg, webp or webp-lossless"),
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
    run: Run, daemons: FakeDaemons, responses: FakeResponses, arguments: tuple[str, ...], expected: str
) -> None:
    code, out, err = run(*arguments).end()
    assert (code, out) == (2, b"")
    assert expected in err
    assert err.count("\n") == 1
    assert err.startswith("stablediffusion_client: ")
    assert daemons.waiting() == 0
    assert responses.listens.empty()


def test_a_prompt_on_standard_input_has_to_be_text(run: Run, daemons: FakeDaemons) -> None:
    code, _, err = run("-").end(b"\xff")
    assert code == 2
    assert "standard input is not UTF-8" in err


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


@pytest.mark.parametrize("arguments", [('{"prompt": "cat"}',), ("status",), ("status", "--json"), ("--help",)])
def test_whatever_is_said_to_a_full_disk(run: Run, daemons: FakeDaemons, arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        code, _, err = run(*arguments, stdout=full.fileno()).end()
    assert code == 74
    [line] = err.splitlines()
    assert line.endswith("cannot write to standard output: No space left on device")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cancel",), "stablediffusion_client cancel: Missing argument 'ID...'"),
        (("status", "--seed", "3"), "stablediffusion_client status: No such option"),
    ],
)
def test_commands_are_as_strict_as_drawing(run: Run, arguments: tuple[str, ...], expected: str) -> None:
    code, _, err = run(*arguments).end()
    assert (code, err.count("\n")) == (2, 1)
    assert expected in err
