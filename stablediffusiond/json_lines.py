"""JSON that stays on one line, whatever its reader takes for the end of a line.

JSON escapes the control characters, and lets three stand that are line ends to Unicode: NEL (U+0085), LINE SEPARATOR
(U+2028) and PARAGRAPH SEPARATOR (U+2029). Python's ``str.splitlines``, Java's ``Scanner`` and JavaScript before ES2019
break a line there.
"""

import re
from typing import Final

#: The lone surrogates beside them cannot be written in UTF-8 at all.
_UNSAFE: Final = re.compile("[\u0085\u2028\u2029\ud800-\udfff]")


def escape_line_ends(json_text: str) -> str:
    """The same JSON; outside of strings none of these characters can stand, so each is escaped where it is."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json_text)
