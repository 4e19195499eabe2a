"""What a shell completes: options, samplers, and what the service offers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stablediffusiond import samplers
from tools.daemons import CHECKOUT

CLIENT = [sys.executable, "-m", "stablediffusiond.cli"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, "STABLEDIFFUSIOND_CONFIG": "", **environment}
    return subprocess.run([*CLIENT, *arguments], env=given, cwd=CHECKOUT, capture_output=True, text=True, check=False)


def completed(line: str, **environment: str) -> list[str]:
    """What is offered for the last word of ``line``."""
    words = line.split(" ")
    asked = {"_STABLEDIFFUSION_CLIENT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return [each.split(",", 1)[1] for each in run(**asked, **environment).stdout.splitlines() if each]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_this_program(shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert f"_STABLEDIFFUSION_CLIENT_COMPLETE={shell}_complete" in done.stdout
    assert run("completion", "tcsh").returncode == 2


def test_bash_takes_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    done = subprocess.run(
        [bash, "-c", f"source '{script}'; complete -p stablediffusion_client"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "stablediffusion_client" in done.stdout


def test_options_and_samplers_are_completed() -> None:
    assert "--negative-prompt" in completed("stablediffusion_client --neg")
    assert completed("stablediffusion_client cat --sampler uni") == ["UniPC"]
    assert len(completed("stablediffusion_client cat --sampler ")) == len(samplers.NAMES)
    assert completed("stablediffusion_client cat --preprocess can") == ["canny"]


def test_a_field_with_choices_has_them_completed() -> None:
    assert completed("stablediffusion_client cat --format j") == ["jpeg"]
    assert completed("stablediffusion_client cat --mask-fill n") == ["neighbours", "noise"]
    assert completed("stablediffusion_client cat --seed 1") == []


def test_what_bash_completes_is_one_word(tmp_path: Path) -> None:
    """With the script as people have it: a name with a space in it is what is drawn with, and not half of it."""
    script = tmp_path / "completion"
    script.write_text(run("completion", "bash").stdout)
    program = tmp_path / "stablediffusion_client"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m stablediffusiond.cli \"$@\"\n")
    program.chmod(0o755)
    asked = f"""
        source '{script}'
        COMP_WORDS=(stablediffusion_client cat --sampler 'Euler'); COMP_CWORD=3
        _stablediffusion_client_completion '{program}'
        eval "words=(${{COMPREPLY[*]}})"
        printf '%s\n' "${{words[@]}}"
    """
    done = subprocess.run(["bash", "-c", asked], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Euler", "Euler a"]


def test_where_nobody_can_be_asked_nothing_is_offered(free_port: int) -> None:
    away = {"STABLEDIFFUSIOND_BROKER__URL": f"amqp://guest:guest@127.0.0.1:{free_port}/"}
    assert completed("stablediffusion_client cat --lora in", **away) == []
