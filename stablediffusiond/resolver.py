"""Host names to addresses, in threads that do not hold up the end of the process.

asyncio asks the system in threads of an executor, and an event loop and the interpreter wait for those when they end.
Where no DNS server answers, a program that has given up would sit there for half a minute.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

#: As ``socket.getaddrinfo`` returns it.
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]

_NAME: Final = "stablediffusiond resolver"


async def resolve(
    host: str | bytes | None,
    port: str | bytes | int | None,
    *,
    family: int = 0,
    type: int = socket.SOCK_STREAM,  # noqa: A002 (getaddrinfo's own name for it)
    proto: int = 0,
    flags: int = 0,
) -> Sequence[AddressInfo]:
    """As ``loop.getaddrinfo``.

    Raises:
        OSError: there is no such name, or no name server answers.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[AddressInfo]] = loop.create_future()

    def settle(found: Sequence[AddressInfo], error: OSError | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)
        else:
            answer.set_exception(error)

    def ask() -> None:
        found: Sequence[AddressInfo] = ()
        error: OSError | None = None
        try:
            found = socket.getaddrinfo(host, port, family, type, proto, flags)
        except OSError as failure:
            error = failure
        except UnicodeError as failure:  # no label of a name may be empty, or longer than 63 characters
            error = OSError(f"{host!r} is no host name: {failure}")
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=ask, name=_NAME, daemon=True).start()
    return await answer
