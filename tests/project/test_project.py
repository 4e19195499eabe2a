"""The things around the code: units, scripts, launchers, the private broker."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

CHECKOUT = Path(__file__).parents[2]
UNITS_OF_ONE = ("stablediffusiond.service", "stablediffusiond@.service")
UNITS = sorted((CHECKOUT / "systemd").glob("*.service"))
PROGRAMS = sorted((CHECKOUT / "bin").iterdir())


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_has_nothing_to_say_about_a_unit(unit: Path, tmp_path: Path) -> None:
    for each in (CHECKOUT / "systemd").iterdir():
        (tmp_path / each.name).write_text(
            re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", each.read_text(), flags=re.M)
        )
    printed = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / unit.name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (printed.returncode, printed.stdout + printed.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_does_not_require_the_broker(unit: Path) -> None:
    text = unit.read_text()
    assert "Type=notify\n" in text
    assert "RestartPreventExitStatus=78\n" in text
    assert re.search("^Wants=.*rabbitmq-server.service", text, re.MULTILINE)
    assert not re.search("^Requires=.*rabbitmq", text, re.MULTILINE)


def test_the_template_is_the_service_for_one_gpu() -> None:
    plain, template = ((CHECKOUT / "systemd" / name).read_text() for name in UNITS_OF_ONE)
    added = set(template.splitlines()) - set(plain.splitlines())
    assert added == {
        "Description=Stable Diffusion: draws on GPU %i what the request queue asks for",
        "Conflicts=stablediffusiond.service",
        "Environment=CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=%i STABLEDIFFUSIOND_MODEL__DEVICE=cuda",
    }
    assert len(plain.splitlines()) + 2 == len(template.splitlines())


def test_the_scripts_are_clean() -> None:
    scripts = [CHECKOUT / "install.sh", CHECKOUT / ".ci/run", *PROGRAMS, *(CHECKOUT / "tests/system").glob("*.sh")]
    checked = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_install_sh_says_what_it_can_do() -> None:
    printed = subprocess.run([CHECKOUT / "install.sh", "--help"], capture_output=True, text=True, check=True).stdout
    for verb in ("demo", "test", "uninstall"):
        assert f"./install.sh {verb}" in printed
    wrong = subprocess.run([CHECKOUT / "install.sh", "dance"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "unknown: dance" in wrong.stderr


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_a_launcher_starts_its_program(program: Path) -> None:
    environment = {**os.environ, "INSTALL_VENV": sys.prefix}
    printed = subprocess.run([program, "--help"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "Usage:" in printed
    unset = {**os.environ, "INSTALL_VENV": "/nowhere"}
    lost = subprocess.run([program], env=unset, capture_output=True, text=True, check=False)
    assert lost.returncode == 78
    assert "install.sh set-up" in lost.stderr


_HOLD = """
import sys; from tools.private_broker import PrivateBroker
with PrivateBroker() as broker:
    print(broker._folder, flush=True)
    sys.stdin.read()
"""


def under(folder: str) -> list[int]:
    """Processes that work in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("HOME") == folder:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_private_broker_ends_with_its_owner(number: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    folder = holder.stdout.readline().strip()
    assert under(folder)
    holder.send_signal(number)
    holder.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while under(folder) or Path(folder).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_private_broker_leaves_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HOLD], cwd=CHECKOUT, input="", capture_output=True, text=True, check=True, timeout=120
    )
    folder = done.stdout.strip()
    assert folder
    assert not Path(folder).exists()
    assert not under(folder)
