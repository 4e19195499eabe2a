"""Names of files as clients write them: with folders, with a suffix, with the hash that A1111 puts behind a title."""

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

_HASH: Final = re.compile(r" \[[0-9a-fA-F]+\]$")
_SUFFIX: Final = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf)$", re.IGNORECASE)


def file_name(name: str) -> str:
    """``name`` as files of a service are known: without any of that."""
    title = _HASH.sub("", name.strip())
    return _SUFFIX.sub("", re.split(r"[/\\]", title.rstrip("/\\"))[-1])


def name_key(name: str) -> str:
    """What is the same in every spelling of one name: without regard to case, either."""
    return file_name(name).casefold()


def _as_known(value: object) -> object:
    return file_name(value) if isinstance(value, str) else value


#: A field of a request that names a file.
FileName = Annotated[str, BeforeValidator(_as_known), Field(min_length=1, max_length=200)]
