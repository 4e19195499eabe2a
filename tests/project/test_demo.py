"""./install.sh demo, as it is typed in a fresh clone."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.preloaded import response_daemon
from tools.private_broker import PrivateBroker

CHECKOUT = Path(__file__).parents[2]


def clone(folder: Path) -> Path:
    """What git has, and what is not committed yet; the virtual environment is the one of this test."""
    subprocess.run(["git", "clone", "-q", CHECKOUT, folder], check=True)
    changed = ["git", "diff", "HEAD", "--name-only", "-z"], ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    listed = [subprocess.run(each, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout for each in changed]
    for name in filter(None, "".join(listed).split("\0")):
        if (CHECKOUT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
    return folder


ENVIRONMENT = {**os.environ, "INSTALL_VENV": sys.prefix, "PYTHONPATH": ""}


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    folder = clone(tmp_path / "one")
    demo = subprocess.Popen(
        ["./install.sh", "demo"], cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert demo.stderr is not None
    for line in demo.stderr:
        if "drawing" in line:
            break
    children = psutil.Process(demo.pid).children(recursive=True)
    assert len(children) >= 4
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(60) == 130
    demo.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_page_until_ctrl_c(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        ["./install.sh", "demo", "--web", "--port", "0"],
        cwd=clone(tmp_path / "one"), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert demo.stderr is not None
    address = next(found[0] for line in demo.stderr if (found := re.search(r"http://localhost:\d+", line)))
    with urllib.request.urlopen(address.replace("localhost", "127.0.0.1"), timeout=30) as answer:
        assert b"<title>Stable Diffusion</title>" in answer.read()
    children = psutil.Process(demo.pid).children(recursive=True)
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(60) == 130
    demo.stderr.close()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def test_a_tmpdir_with_a_long_name_is_as_good_as_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / "temporary files" / ("x" * 100)
    long.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with PrivateBroker() as broker, response_daemon({"STABLEDIFFUSIOND_BROKER__URL": broker.url}) as responsed:
        responsed.wait_ready().wait_status("^0 clients$")
