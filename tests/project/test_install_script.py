"""Parts of install.sh that need neither root nor a network."""

import os
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
#: Its functions, and in place of what they would run, what that would be.
FUNCTIONS = """
eval "$(sed '/^case /,$d' install.sh)"
quietly() { "$@"; }
with_pip() { shift; echo "pip $*"; }
say() { :; }
plain_torch_is_small() { return 1; }
"""
PLAIN = "pip install -q torch\n"
FOR_CPUS = "pip install -q --index-url https://download.pytorch.org/whl/cpu torch\n"


def run(script: str, **environment: str) -> str:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", FUNCTIONS + script],
        env={"PATH": os.environ["PATH"], **environment}, cwd=CHECKOUT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("gpu", ["in the path", "of WSL2", "gone"])
def test_torch_is_taken_with_cuda_where_nvidia_smi_shows_a_gpu(tmp_path: Path, gpu: str) -> None:
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text(f"#!/bin/sh\nexit {int(gpu == 'gone')}\n")
    nvidia_smi.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}" if gpu != "of WSL2" else os.environ["PATH"]
    libraries = tmp_path if gpu == "of WSL2" else tmp_path / "none"
    printed = run(f"WSL_LIBRARIES='{libraries}'; install_torch /nowhere", PATH=path)
    assert printed == (FOR_CPUS if gpu == "gone" else PLAIN)


def test_an_index_that_is_named_is_asked_whatever_gpu_there_is() -> None:
    printed = run("install_torch /nowhere", TORCH_INDEX_URL="https://packages.invalid/simple")
    assert printed == "pip install -q --index-url https://packages.invalid/simple torch\n"


def test_the_plan_says_whether_there_is_a_gateway() -> None:
    for options, said in (("--dry-run", "no"), ("--with-gateway --dry-run", "yes")):
        assert f"with-gateway      {said}: " in run(f"install_service {options}")
