"""Names of files as clients write them: with folders, with a suffix, with the hash that A1111 puts behind a title."""

import re
from typing import Final

_HASH: Final = re.compile(r" \[[0-9a-fA-F]+\]$")
_SUFFIX: Final = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf)$", re.IGNORECASE)


def file_name(name: str) -> str:
    """``name`` as files of a service are known: without any of that."""
    title = _HASH.sub("", name.strip())
    return _SUFFIX.sub("", re.split(r"[/\\]", title.rstrip("/\\"))[-1])
