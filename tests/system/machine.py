"""A machine of its own for an installation: this one's programs under an overlay, booted by a real systemd.

Nothing of it is seen here, and nothing that runs here is seen there: it has a network of its own.
"""

import contextlib
import os
import shlex
import subprocess
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from tests.system.network import NAME_SERVER, Network
from tests.system.root import AS_ROOT

#: No account of this machine; a user called alice may run these tests, too.
USER: Final = "tests-alice"
HOME: Final = f"/home/{USER}"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOGIN: Final = b"login:"
#: Where programs and packages lie.
_PROGRAMS: Final = ("/etc", "/opt", "/srv", "/usr", "/var")
_PREPARE: Final = Path(__file__).with_name("prepare.sh")
_BOOT: Final = Path(__file__).with_name("boot.sh")


class Machine:
    """``with Machine(network) as machine: machine.run("systemctl is-active …")``."""

    def __init__(self, network: Network) -> None:
        self.network = network
        # It gets gigabytes, and /tmp may lie in memory.
        self._folder = Path(tempfile.mkdtemp(prefix="machine-", dir=os.environ.get("TMPDIR", "/var/tmp")))
        self._root = self._folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._undo = contextlib.ExitStack()

    def run(self, script: str, *, check: bool = True, timeout_seconds: float = 400) -> str:
        """Run a bash script as an ordinary user who may use sudo; what it printed on both streams.

        He is careful (umask 077), and has temporary files in a place of his own.
        """
        careful = f"umask 077; export TMPDIR={HOME}/temporary; mkdir -p $TMPDIR; {script}"
        return self._run_as(USER, HOME, careful, check=check, timeout_seconds=timeout_seconds)

    def root(self, script: str, *, check: bool = True, timeout_seconds: float = 400) -> str:
        """Run a bash script as root."""
        return self._run_as("root", "/root", script, check=check, timeout_seconds=timeout_seconds)

    def read(self, file: str) -> bytes:
        """The contents of a file, named as it is called in the machine."""
        return subprocess.run([*AS_ROOT, "cat", self._path(file)], check=True, capture_output=True).stdout

    def copy(self, folder: Path, name: str) -> None:
        """A copy of a folder of this machine, the user's own."""
        to = f"{HOME}/{name}"
        self.run(f"mkdir -p {shlex.quote(str(Path(to).parent))}")
        subprocess.run([*AS_ROOT, "cp", "-r", folder, self._path(to)], check=True)
        self.root(f"chown -R {USER}: {shlex.quote(to)}; chmod -R go= {shlex.quote(to)}")

    def written(self, pattern: str) -> list[str]:
        """Files and folders inside that the machine itself has made or changed, and still has, by their name."""
        names: list[str] = []
        for number, mounted in enumerate(["", *_mounted()]):
            upper = str(self._folder / f"layer-{number}/upper")
            # overlayfs: what was deleted is a character device.
            find = ["find", upper, "-mindepth", "1", "-name", pattern, "!", "-type", "c", "-printf", f"{mounted}/%P\\n"]
            names += subprocess.run([*AS_ROOT, *find], check=True, capture_output=True, text=True).stdout.splitlines()
        return names

    def reboot(self) -> None:
        """Switch it off, as an operator would, and on again."""
        self._switch_off()
        self._boot()

    def _path(self, inside: str) -> Path:
        return self._root / inside.removeprefix("/")

    def _run_as(self, user: str, home: str, script: str, *, check: bool, timeout_seconds: float) -> str:
        leader = self._leader()
        settings = "set -a; . /etc/package-settings; set +a"
        done = subprocess.run(
            [*AS_ROOT, "nsenter", "-t", str(leader.pid), "-m", "-u", "-i", "-p", "-C", "-n", "--",
             "/usr/bin/env", "-i", f"PATH={_PATH}", f"HOME={home}", "LANG=C.UTF-8",
             "/usr/sbin/runuser", "-u", user, "--", "bash", "-euo", "pipefail", "-c", f"cd ~; {settings}; {script}"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_seconds,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}"
        return done.stdout

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(subprocess.run, [*AS_ROOT, "rm", "-rf", self._folder], check=True)
            self._leave_overlay(undo)
            self._root.mkdir()
            self._mount(undo)
            self._prepare()
            undo.callback(self._switch_off)
            self._boot()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _leave_overlay(self, undo: contextlib.ExitStack) -> None:
        """Where these tests run in a container, their files lie on an overlay, and no other can lie on that."""
        kind = subprocess.run(["stat", "-f", "-c", "%T", self._folder], check=True, capture_output=True, text=True)
        if kind.stdout.strip() == "overlayfs":
            subprocess.run([*AS_ROOT, "mount", "-t", "tmpfs", "tmpfs", self._folder], check=True)
            undo.callback(subprocess.run, [*AS_ROOT, "umount", self._folder], check=True)

    def _mount(self, undo: contextlib.ExitStack) -> None:
        """Lay an overlay over each file system that programs and packages lie on; one shows no others below it."""
        for number, mounted in enumerate(["/", *_mounted()]):
            layer = self._folder / f"layer-{number}"
            # Owner and mode are those of the machine's own folder, whoever we are.
            folders = ["install", "-d", "-m", "755", f"{layer}/upper", f"{layer}/work"]
            subprocess.run([*AS_ROOT, *folders], check=True)
            # By names that hold neither commas nor spaces, whatever stands before them.
            options = f"lowerdir={mounted},upperdir=upper,workdir=work"
            mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(self._path(mounted))]
            subprocess.run([*AS_ROOT, *mount], cwd=layer, check=True)
            undo.callback(subprocess.run, [*AS_ROOT, "umount", self._path(mounted)], check=True)

    def _prepare(self) -> None:
        settings = "".join(f"{name}={shlex.quote(value)}\n" for name, value in _package_settings().items())
        command = [str(_PREPARE), str(self._root), USER, NAME_SERVER, uuid.uuid4().hex]
        subprocess.run([*AS_ROOT, *command], input=settings, text=True, check=True)

    def _boot(self) -> None:
        self._nspawn = subprocess.Popen(
            [*AS_ROOT, _BOOT, self.network.name, self._root, self.network.path],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        assert self._nspawn.stdout is not None
        console = b""
        while _LOGIN not in console:
            some = os.read(self._nspawn.stdout.fileno(), 4096)
            console += some
            if not some:
                self._nspawn.communicate()
                raise RuntimeError(f"the machine did not boot:\n{console.decode(errors='replace')}")

    def _leader(self) -> psutil.Process:
        """The machine's first process."""
        assert self._nspawn is not None
        started = psutil.Process(self._nspawn.pid)  # of boot.sh, and sudo before it
        [nspawn] = (each for each in (started, *started.children(recursive=True)) if _name(each) == "systemd-nspawn")
        [leader] = nspawn.children()
        return leader

    def _switch_off(self) -> None:
        if self._nspawn is not None and self._nspawn.poll() is None:
            # For systemd in a container: switch off.
            subprocess.run([*AS_ROOT, "kill", "-s", "RTMIN+4", str(self._leader().pid)], check=True)
            self._nspawn.communicate(timeout=120)


def _name(process: psutil.Process) -> str:
    """Of a process that may have ended since it was listed, as the machine's own do all the time: then empty."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _mounted() -> list[str]:
    found = sorted(each.mountpoint for each in psutil.disk_partitions())
    return [each for each in found if each.startswith(_PROGRAMS) and Path(each).is_dir()]


def _package_settings() -> dict[str, str]:
    """Where this machine is told to take packages from; byte code is there already: ``byte_code``."""
    told = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "TORCH_INDEX_URL"))}
    return {**told, "PIP_COMPILE": "0"}
