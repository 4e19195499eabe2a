"""``stablediffusion_client``: what it is told becomes a request, and what comes back is written."""

import json
import os
import pty
import re
from pathlib import Path
from urllib.parse import urlsplit

from stablediffusiond.cli.command import COMMANDS
from stablediffusiond.pictures.encoding import encode
from stablediffusiond.pictures.metadata import Metadata
from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons, png
from tests.client.running import Run
from tests.client.test_like import PIXELS, picture_of


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
        "clip_skip": "2", "model": "doodle", "format": "webp", "quality": "70",
    }  # fmt: skip
    arguments = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    code, _, err = run("cat", "--no-wait", "--image", "init.png", "--priority", "low", *arguments).end()
    assert (code, err) == (0, "")
    fields = daemons.take(f"{daemons.topology.requests}.low").fields
    assert {name: str(fields[name]).removesuffix(".0") for name in options} == options
    assert fields["type"] == "img2img"
    assert fields["image"].startswith("iVBOR")


def test_a_file_need_not_say_how_it_was_drawn(run: Run, daemons: FakeDaemons) -> None:
    run("cat", "--no-wait", "--no-metadata").end()
    assert daemons.take().fields["metadata"] is False


def test_a_picture_is_drawn_like_another(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    (tmp_path / "old.jpg").write_bytes(picture_of("jpeg", steps=7, quality=70))
    running = run("--like", "old.jpg", "--seed", "5")
    request = daemons.take()
    daemons.draw(request, 0)
    daemons.finish(request)
    assert running.end() == (0, f"{request.id}.jpg\n".encode(), "")
    assert request.id != "mine"
    asked = {name: request.fields[name] for name in ("prompt", "seed", "steps", "format", "quality", "model")}
    assert asked == {"prompt": "a red cat", "seed": 5, "steps": 7, "format": "jpeg", "quality": 70, "model": "doodle"}
    run("--like", "old.jpg", "a dog", "--no-wait", "--model", "").end()
    fields = daemons.take().fields
    assert (fields["prompt"], fields["seed"], "model" in fields) == ("a dog", 42, False)


def test_what_a_strangers_file_says_and_is_not_taken_is_told(run: Run, daemons: FakeDaemons, tmp_path: Path) -> None:
    text = "cat\nSteps: 7, Sampler: Euler a, Seed: 1, RNG: CPU, Model hash: 99, Hires upscale: 2"
    (tmp_path / "theirs.png").write_bytes(encode(PIXELS, says=Metadata(text)))
    code, _, err = run("--like", "theirs.png", "--no-wait").end()
    told = "stablediffusion_client: of 'theirs.png' this is not taken: Model hash\n"
    assert (code, err) == (0, told)
    fields = daemons.take().fields
    assert (fields["steps"], fields["hires"]) == (7, {})  # twice as large, as it is by itself


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
    by_type = {line["type"]: line for line in lines}
    assert by_type["progress"] == {"type": "progress", "id": request.id, "step": 3, "steps": 50}
    assert (by_type["image"]["seed"], by_type["image"]["job_type"]) == (5, "txt2img")
    assert (tmp_path / by_type["image"]["path"]).read_bytes() == png(0)
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


def test_json_with_a_byte_order_mark_on_standard_input_is_no_prompt(run: Run, daemons: FakeDaemons) -> None:
    code, out, err = run("-").end(b'\xef\xbb\xbf{"prompt": "cat", "seed": 42}\r\n')
    request = daemons.take()
    assert (code, out.decode(), err) == (0, f"{request.id}\n", "")
    assert (request.fields["prompt"], request.fields["seed"]) == ("cat", 42)


def test_a_word_that_is_a_command_can_be_drawn(run: Run, daemons: FakeDaemons) -> None:
    for arguments in (("--no-wait", "--", "status"), ("--no-wait", "cancel"), ("cancel it", "--no-wait")):
        assert run(*arguments).end()[0] == 0
        assert daemons.take().fields["prompt"] == arguments[-1 if arguments[0].startswith("-") else 0]


def test_help_teaches(run: Run, settings: Settings) -> None:
    code, out, err = run("--help").end()
    text = " ".join(out.decode().split())
    assert (code, err) == (0, "")
    for taught in ("Examples:", "Exit codes:", "default: the model's, else 50", "--guidance-scale", "{seed}", "130", *COMMANDS):
        assert taught in text
    assert "Pydantic" not in text
