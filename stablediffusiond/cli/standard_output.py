"""Standard output, which may be a file on a full disk."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Final

import click

from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.json_lines import escape_line_ends

#: No room, none for this user, none in one file; and a device that is broken.
_UNWRITTEN: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Unwritable(StableDiffusiondError):
    """Raised when a result has come and cannot be written."""

    exit_code = 74  # EX_IOERR


def print_json(json_text: str) -> None:
    """Print JSON in UTF-8, which it is written in whatever the terminal's encoding is."""
    click.echo(escape_line_ends(json_text).encode())


@contextlib.contextmanager
def all_written() -> Iterator[None]:
    """See to it that standard output has taken what is written meanwhile.

    Raises:
        Unwritable: it has not, and takes nothing any more: Python would try again at its end, and complain.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in _UNWRITTEN:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        raise Unwritable(f"cannot write to standard output: {error.strerror}") from None
