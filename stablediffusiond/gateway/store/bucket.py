"""A bucket of S3, or of what speaks as S3 does: ``s3://BUCKET/PREFIX``.

Who we are there, and where it is, is said as all clients of S3 are told, in the environment: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` … A PUT that is answered is kept: nothing is synced.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.errors import StoreRefused, StoreUnavailable
from stablediffusiond.gateway.store.files import PIECE_BYTES

if TYPE_CHECKING:
    from obstore.store import S3Store

SCHEME: Final = "s3://"
#: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_REFUSED: Final = re.compile(r"403 Forbidden|NoSuchBucket")
_ANSWER: Final = re.compile(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>")

#: How long a client waits to hear that its job cannot be kept.
_PATIENCE_SECONDS: Final = 5.0
_CONNECT_TIMEOUT: Final = timedelta(seconds=3)
#: Without a byte of the answer; the largest picture, of 12 MiB, is sent meanwhile.
_READ_TIMEOUT: Final = timedelta(seconds=30)
#: Of a whole request: a picture is read as slowly as the client takes it.
_TIMEOUT: Final = timedelta(hours=1)
#: A connection that the server has closed meanwhile; who calls tries on for longer.
_MOST_RETRIES: Final = 2
_RETRY_TIMEOUT: Final = timedelta(seconds=2)


class BucketFiles:
    """``Files`` in the bucket that ``url`` names. Two gateways with one prefix would not notice each other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._store = _connected(url)

    async def open(self) -> None:
        """Look whether the bucket is there."""
        with _translated():
            await self._store.list_with_delimiter_async()

    async def create(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Again and again, if need be: it is the same then."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self.place(folder, files)
        except TimeoutError:
            raise StoreUnavailable("the bucket does not answer") from None

    async def place(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        for name, data in files:
            with _translated():
                await self._store.put_async(_key(folder, name), data, use_multipart=False)

    async def sync(self, folder: str, names: Sequence[str]) -> None:
        """What was answered is kept."""

    async def read(self, folder: str, name: str) -> bytes | None:
        try:
            with _translated():
                found = await self._store.get_async(_key(folder, name))
                return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def stream(self, folder: str, name: str) -> AsyncIterator[bytes]:
        with _translated():
            found = await self._store.get_async(_key(folder, name))
        return _pieces(found.stream(min_chunk_size=PIECE_BYTES))

    async def sizes(self, folder: str) -> dict[str, int]:
        return {path.rpartition("/")[2]: size async for path, size in self._list(folder)}

    async def folders(self, folder: str) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        async for path, size in self._list(folder):
            parent, _, name = path.rpartition("/")
            found.setdefault(parent.rpartition("/")[2], {})[name] = size
        return found

    async def delete(self, folder: str, first: str) -> None:
        """One by one: not all that speaks as S3 does can delete several at once."""
        await self._delete(_key(folder, first))
        others = [path async for path, _ in self._list(folder)]
        await asyncio.gather(*(self._delete(path) for path in others))

    async def close(self) -> None:
        """Nothing is held."""

    async def _list(self, folder: str) -> AsyncIterator[tuple[str, int]]:
        with _translated():
            async for page in self._store.list(folder):
                for each in page:
                    yield each["path"], each["size"]

    async def _delete(self, path: str) -> None:
        with _translated():
            await self._store.delete_async(path)


def _connected(url: str) -> "S3Store":
    """Raises SettingsError."""
    try:
        # 20 MB of memory, for those who have their pictures there.
        from obstore.exceptions import BaseError  # noqa: PLC0415
        from obstore.store import S3Store  # noqa: PLC0415
    except ImportError:
        raise SettingsError("settings: [gateway] store: S3 needs obstore; run: pip install obstore") from None
    try:
        return S3Store.from_url(
            url,
            client_options={
                "connect_timeout": _CONNECT_TIMEOUT,
                "read_timeout": _READ_TIMEOUT,
                "timeout": _TIMEOUT,
                # Who names an address without TLS means it.
                "allow_http": True,
            },
            retry_config={"max_retries": _MOST_RETRIES, "retry_timeout": _RETRY_TIMEOUT},
        )
    except (BaseError, ValueError) as error:
        raise SettingsError(f"settings: [gateway] store: {url}: {_said(error)}") from None


async def _pieces(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    with _translated():
        async for piece in stream:
            yield piece


def _key(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Errors of obstore's as ours; that there is no such object stays a FileNotFoundError."""
    from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError  # noqa: PLC0415 (loaded already)

    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" not in str(error):
            raise
        raise StoreRefused(_said(error)) from None
    except BaseError as error:
        # A list that is refused is a GenericError.
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(str(error))
        raise (StoreRefused if refused else StoreUnavailable)(_said(error)) from None


def _said(error: Exception) -> str:
    """What the server says, else the first line: the rest is for those who debug obstore."""
    if (answer := _ANSWER.search(str(error))) is not None:
        return f"{answer[1]}: {answer[2]}"
    return str(error).partition("\n")[0]
