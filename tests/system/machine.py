"""A machine of its own for an installation: this one's files under an overlay, booted by a real systemd.

It shares the network of this machine, because packages come from there; so the default ports have to be free.
"""

import os
import signal
import socket
import stat
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

#: The ports of a RabbitMQ and its epmd, and of the response daemon.
_PORTS: Final = (4369, 5672, 50007)
_USER: Final = "alice"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOGIN: Final = b"login:"


class Machine:
    """``with Machine(folder) as machine: machine.run("systemctl is-active …")``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None

    def path(self, inside: str) -> Path:
        """Where a file of the machine lies on this one."""
        return self._root / inside.removeprefix("/")

    def written(self, pattern: str) -> list[str]:
        """Files and folders inside that the machine itself has made or changed, and still has, by their name."""
        upper = self._folder / "upper"
        left = (path for path in upper.rglob(pattern) if not stat.S_ISCHR(path.lstat().st_mode))  # overlayfs: deleted
        return [f"/{path.relative_to(upper)}" for path in left]

    def run(self, script: str, *, check: bool = True, timeout_seconds: float = 280) -> str:
        """Run a bash script as an ordinary user who may use sudo; what it printed on both streams."""
        return self._run_as(_USER, script, check=check, timeout_seconds=timeout_seconds)

    def root(self, script: str, *, check: bool = True, timeout_seconds: float = 280) -> str:
        """Run a bash script as root."""
        return self._run_as("root", script, check=check, timeout_seconds=timeout_seconds)

    def reboot(self) -> None:
        """Switch it off, as an operator would, and on again."""
        self._switch_off()
        self._boot()

    def _run_as(self, user: str, script: str, *, check: bool, timeout_seconds: float) -> str:
        leader = self._leader()
        done = subprocess.run(
            ["nsenter", "-t", str(leader.pid), "-m", "-u", "-i", "-p", "-C", "--",
             "/usr/sbin/runuser", "-u", user, "--", "bash", "-euo", "pipefail", "-c", f"cd ~; {script}"],
            env={**_package_settings(), "PATH": _PATH, "HOME": f"/home/{_USER}", "LANG": "C.UTF-8"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_seconds,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def __enter__(self) -> Self:
        for port in _PORTS:
            _require_free(port)
        layers = {name: self._folder / name for name in ("upper", "work")}
        for folder in (*layers.values(), self._root):
            folder.mkdir()
        options = f"lowerdir=/,upperdir={layers['upper']},workdir={layers['work']}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self._root], check=True)
        try:
            self._make_user()
            self._boot()
        except BaseException:
            self._shut_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shut_down()

    def _make_user(self) -> None:
        chroot = ["chroot", str(self._root)]
        subprocess.run([*chroot, "useradd", "--create-home", "--groups", "systemd-journal", _USER], check=True)
        keep = f'Defaults env_keep += "{" ".join(_package_settings())}"\n' if _package_settings() else ""
        sudoers = self.path("/etc/sudoers.d/tests")
        sudoers.write_text(f"{keep}{_USER} ALL=(ALL) NOPASSWD: ALL\n")
        sudoers.chmod(0o440)

    def _boot(self) -> None:
        self._nspawn = subprocess.Popen(
            ["systemd-nspawn", "-q", "-D", self._root, "--boot", "--register=no", "--keep-unit"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert self._nspawn.stdout is not None
        console = b""
        while _LOGIN not in console:
            some = os.read(self._nspawn.stdout.fileno(), 4096)
            assert some, f"the machine did not boot:\n{console.decode(errors='replace')}"
            console += some

    def _leader(self) -> psutil.Process:
        assert self._nspawn is not None
        [leader] = psutil.Process(self._nspawn.pid).children()
        return leader

    def _switch_off(self) -> None:
        if self._nspawn is not None and self._nspawn.poll() is None:
            # For systemd in a container: switch off.
            self._leader().send_signal(signal.SIGRTMIN + 4)
            self._nspawn.communicate(timeout=120)

    def _shut_down(self) -> None:
        self._switch_off()
        subprocess.run(["umount", self._root], check=True)


def _package_settings() -> dict[str, str]:
    """Where this machine is told to take packages from."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "TORCH_INDEX_URL"))}


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, f"stop what listens on port {port}, and run this test again"
