"""A server of S3 that may be killed: npm's ``s3rver``, which keeps objects as files."""

import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.node_packages import node_package

BUCKET = "pictures"
_KEY = "S3RVER"  # the one that it knows


class S3Server:
    """On ``port``, with its objects in ``folder``, from the start and again after each ``kill`` and ``start``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._port = port
        self._program = node_package("s3rver", "3.7") / ".bin/s3rver"
        self._process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What clients of S3 look at."""
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
        }

    @property
    def store(self) -> str:
        return f"s3://{BUCKET}/gateway"

    def start(self) -> Self:
        self._process = subprocess.Popen(
            [self._program, "-d", self.folder, "-a", "127.0.0.1", "-p", str(self._port), "-s", "--configure-bucket", BUCKET],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert any("listening" in line for line in iter(self._process.stdout.readline, ""))
        return self

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def freeze(self) -> None:
        """Answer nothing more, without closing anything."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def objects(self) -> list[str]:
        """The names of all objects below the store's prefix."""
        root = self.folder / BUCKET / "gateway"
        found = (str(path.relative_to(root)) for path in root.rglob("*._S3rver_object"))
        return sorted(name.removesuffix("._S3rver_object") for name in found)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
