"""A1111's dialect of prompts: which words weigh how much, and what of it is not done here.

``(x)`` weighs 1.1 times as much, ``[x]`` as much less, ``(x:1.3)`` 1.3 times; brackets nest, a backslash takes one
literally, and ``BREAK`` begins a new chunk of tokens. Prompts composed with ``AND`` and such as change while a picture
is drawn, ``[from:to:when]`` and ``[one|other]``, are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import shown

PromptSyntax = Literal["a1111", "plain"]

_STRONGER: Final = 1.1
_OPENING: Final = {")": "(", "]": "["}
_FACTORS: Final = {"(": _STRONGER, "[": 1 / _STRONGER}
_TOKENS: Final = re.compile(
    r"\\[\\()\[\]]|\\|\(|\[|:\s*(?P<weight>[+-]?(\d+\.?\d*|\.\d+))\s*\)|\)|\]|[^\\()\[\]:]+|:", re.DOTALL
)
_BREAK: Final = re.compile(r"\s*\bBREAK\b\s*")
_AND: Final = re.compile(r"\bAND\b")
#: Inside square brackets: a time at which it changes, or another thing to alternate with.
_CHANGES: Final = re.compile(r":\s*\d*\.?\d+\s*$")


class Piece(NamedTuple):
    text: str
    weight: float


@dataclass
class _Parser:
    pieces: list[Piece] = field(default_factory=list)
    opened: list[tuple[str, int]] = field(default_factory=list)  #: each open bracket, and the first piece within it

    def token(self, token: re.Match[str]) -> None:
        text = token[0]
        if text in _FACTORS:
            self.opened.append((text, len(self.pieces)))
        elif token["weight"] and self._closes("("):
            self._close(float(token["weight"]))
        elif text in _OPENING and self._closes(_OPENING[text]):
            self._close(_FACTORS[_OPENING[text]])
        else:
            self.pieces.append(Piece(text[1:] if text[0] == "\\" and len(text) > 1 else text, 1.0))

    def end(self) -> list[Piece]:
        while self.opened:  # what was never closed counts, too
            self._close(_FACTORS[self.opened[-1][0]])
        return self.pieces

    def _closes(self, bracket: str) -> bool:
        return any(each == bracket for each, _ in self.opened)

    def _close(self, factor: float) -> None:
        _, first = self.opened.pop()
        self.pieces[first:] = [Piece(text, weight * factor) for text, weight in self.pieces[first:]]


def parse(prompt: str) -> list[list[Piece]]:
    """The pieces of ``prompt`` with their weights, by the chunks that ``BREAK`` makes of it."""
    parser = _Parser()
    for token in _TOKENS.finditer(prompt):
        parser.token(token)
    chunks: list[list[Piece]] = [[]]
    for text, weight in parser.end():
        for place, part in enumerate(_BREAK.split(text)):
            if place:
                chunks.append([])
            if part:
                _append(chunks[-1], Piece(part, weight))
    return chunks


def is_plain(prompt: str) -> bool:
    """Whether ``prompt`` means nothing but its letters."""
    return not re.search(r"[\\()\[\]]|\bBREAK\b", prompt)


def check(prompt: str, field: str) -> None:
    """Raise InvalidRequest for what the dialect has and is not done here."""
    literally = re.sub(r"\\.", "  ", prompt, flags=re.DOTALL)
    if _AND.search(literally):
        said = "asks for prompts composed with AND, which is not done here; write it small, or send separate requests"
        raise InvalidRequest(f"{field!r} {said}", field=field)
    for inside in _in_square_brackets(literally):
        if "|" in inside or _CHANGES.search(inside):
            said = "which changes while it is drawn, and is not done here; with a backslash before it, [ is a letter"
            raise InvalidRequest(f"{field!r} has {shown(f'[{inside}]')}, {said}", field=field)


def _in_square_brackets(prompt: str) -> Iterator[str]:
    opened: list[int] = []
    for place, letter in enumerate(prompt):
        if letter == "[":
            opened.append(place + 1)
        elif letter == "]" and opened:
            yield prompt[opened.pop() : place]


def _append(pieces: list[Piece], piece: Piece) -> None:
    if pieces and pieces[-1].weight == piece.weight:
        piece = Piece(pieces.pop().text + piece.text, piece.weight)
    pieces.append(piece)
