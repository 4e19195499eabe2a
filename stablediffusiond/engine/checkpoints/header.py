"""What a safetensors file says at its beginning: which tensors it holds, of which shapes; without reading one.

The format: https://huggingface.co/docs/safetensors/index#format
"""

import errno
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from stablediffusiond.errors import ModelAway, ModelUnavailable

#: Longer headers are refused by the format's own library, too.
_LONGEST_BYTES: Final = 100_000_000
_LENGTH_BYTES: Final = 8
#: What a disk or a network's file system answers that may answer otherwise later.
PASSING: Final = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EHOSTDOWN, errno.ENOTCONN})


class TensorFacts(NamedTuple):
    dtype: str
    """As the format writes it: F32, F16, BF16, F8_E4M3, U8, …"""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """The tensors of ``path`` by their names, and what its maker noted beside them."""

    path: Path
    tensors: dict[str, TensorFacts]
    notes: dict[str, str] = field(default_factory=dict)
    quantised: bool = False
    """Whether they are in a format of which that is to be expected."""

    def __contains__(self, name: object) -> bool:
        return name in self.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Empty where there is no such tensor."""
        return self.tensors[name].shape if name in self.tensors else ()

    def below(self, prefix: str) -> Iterator[str]:
        """The names that begin with ``prefix``."""
        return (name for name in self.tensors if name.startswith(prefix))

    def has(self, prefix: str) -> bool:
        return next(self.below(prefix), None) is not None


def read(path: Path) -> Header:
    """The header of ``path``.

    Raises:
        ModelUnavailable: the file is cut off, or is of another format.
        ModelAway: its disk does not give it now.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= _LONGEST_BYTES:
                raise ModelUnavailable(f"{path} is no safetensors file{seen(path)}")
            entries = json.loads(file.read(length))
        size = path.stat().st_size - _LENGTH_BYTES - length
        notes = entries.pop("__metadata__", {})
        tensors = {name: TensorFacts(each["dtype"], tuple(each["shape"])) for name, each in entries.items()}
        end = max((each["data_offsets"][1] for each in entries.values()), default=0)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelUnavailable(f"{path} is no safetensors file{seen(path)}") from None
    if size < end:
        raise ModelUnavailable(f"{path} is cut off: {end - size} of {end} bytes are missing; fetch it again")
    return Header(path, tensors, notes)


def unreadable(path: Path, error: OSError) -> ModelAway | ModelUnavailable:
    """What to raise where ``path`` cannot be read, for now or for good."""
    kind = ModelAway if error.errno in PASSING else ModelUnavailable
    return kind(f"{path} cannot be read: {error.strerror}")


def seen(path: Path) -> str:
    """What a file is that has not the bytes of its name."""
    with path.open("rb") as file:
        begin = file.read(512)
    known: dict[str, tuple[bytes, ...]] = {
        ", but a pointer of Git LFS: fetch the file itself (git lfs pull)": (b"version https://git-lfs",),
        ", but a web page: a download that was refused": (b"<!DOCTYPE", b"<!doctype", b"<html"),
        ", but a message of a server: a download that was refused": (b'{"error', b"Access to"),
        ", but a pickle or a zip file": (b"PK\x03\x04", b"\x80\x02"),
        ", but a GGUF file": (b"GGUF",),
    }
    if not begin.strip(b"\0"):
        return ", it is empty"
    return next((said for said, magic in known.items() if begin.startswith(magic)), "")
