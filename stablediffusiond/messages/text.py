"""Text as it comes in from programs and files: UTF-8, perhaps with a byte order mark before it."""

import codecs
from typing import Final

from stablediffusiond.errors import UnreadableMessage

BYTE_ORDER_MARK: Final = "\ufeff"
_OTHER_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # UTF-32 LE begins as UTF-16 LE


def decode(data: bytes, what: str) -> str:
    """The text in ``data``, without a byte order mark; ``what`` it is stands in the error.

    Raises:
        UnreadableMessage: it is not UTF-8.
    """
    if data.startswith(_OTHER_MARKS) or b"\0" in data[:4]:
        raise UnreadableMessage(f"{what} is not UTF-8 but UTF-16 or UTF-32, as it begins; send UTF-8")
    try:
        return data.decode().removeprefix(BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise UnreadableMessage(f"{what} is not UTF-8: {error}") from None
