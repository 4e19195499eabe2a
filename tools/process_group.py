"""A program whose processes all end with this one, whatever it dies of, a SIGKILL included."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: A process between this one and the program. Linux tells it when its parent has ended (PR_SET_PDEATHSIG, 1), and then
#: nothing needs the program's folder any more. Its parent is the thread that made it: let that be one that stays.
_SUPERVISOR: Final = """
import ctypes, os, shutil, signal, subprocess, sys
ctypes.CDLL(None).prctl(1, signal.SIGUSR1)
program = subprocess.Popen(sys.argv[1:], start_new_session=True)
orphaned = False
def end(number=0, _=None):
    global orphaned
    orphaned = orphaned or number == signal.SIGUSR1
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, end)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    sys.exit(program.wait())
finally:
    end()
    if orphaned:
        shutil.rmtree(os.getcwd(), ignore_errors=True)
"""


class ProcessGroup:
    """``program`` and what it starts, in ``folder``, where ``log`` gets its output."""

    def __init__(self, program: str, folder: Path, log: str, environment: Mapping[str, str]) -> None:
        with (folder / log).open("ab") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-c", _SUPERVISOR, program],
                env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    @property
    def has_ended(self) -> bool:
        return self._supervisor.poll() is not None

    def kill(self) -> None:
        """End all of them with SIGKILL, and wait for that."""
        self._supervisor.send_signal(signal.SIGTERM)
        self._supervisor.wait(30)
