"""The Unix socket that the response daemon makes where systemd has not made one: whose it is, and when it is stale.

The file stays behind when its daemon is killed, and then refuses connections; such a one is replaced. One that takes
them belongs to a daemon that lives.
"""

import contextlib
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Final

from stablediffusiond.errors import AddressInUse, SettingsError

#: Who may use the service, where it is installed as a service; elsewhere the file keeps our own group.
GROUP: Final = "stablediffusion"
_MODE: Final = 0o660
#: Connections that may wait to be accepted while a daemon starts or is busy; as in systemd's socket unit.
BACKLOG: Final = 1024


class UnixSocket:
    """The socket file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> socket.socket:
        """Listen there.

        Raises:
            AddressInUse: another daemon does, or the file is something else.
            SettingsError: no socket can be made there.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._clear()
            self._bind(listening)
            listening.listen(BACKLOG)
        except OSError as error:
            listening.close()
            reason = error.strerror or str(error)
            raise SettingsError(f"settings: [responses] socket: cannot make {self._path}: {reason}") from None
        except AddressInUse:
            listening.close()
            raise
        return listening

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what another process has left, unless that still listens."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise AddressInUse(f"{self._path} is no socket; [responses] socket names another path")
        if self._answers():
            raise AddressInUse(
                f"cannot listen on {self._path}: is another stablediffusion_responsed running? "
                "[responses] socket names another path"
            )
        self.remove()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                return False
            except BlockingIOError:  # so many wait to be let in
                return True
            return True

    def _bind(self, listening: socket.socket) -> None:
        """Make the file, ours alone until it belongs to those who may use it."""
        before = os.umask(0o177)
        try:
            listening.bind(str(self._path))
        finally:
            os.umask(before)
        # No such group, or one that is not ours: the file keeps our own.
        with contextlib.suppress(LookupError, PermissionError):
            shutil.chown(self._path, group=GROUP)
        self._path.chmod(_MODE)
