"""Tokenizers that stand in front of a model's own: they understand weights, cut long prompts into chunks, and note what
their encoder does not see.

What they are called with is what diffusers' pipelines call a tokenizer with, one or several texts and a length.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from transformers import BatchEncoding

from stablediffusiond.messages.prompt_syntax import Piece, PromptSyntax, parse

#: Where a chunk is full, what follows the last comma goes to the next one if it is no longer than this; as in A1111.
_MOST_MOVED_TOKENS: Final = 20
_SHOWN_CHARACTERS: Final = 200


class Token(NamedTuple):
    id: int
    weight: float


class PromptTokenizer:
    """In front of ``tokenizer``; what it does not say otherwise is said by that."""

    def __init__(self, tokenizer: Any, syntax: PromptSyntax) -> None:
        self._tokenizer = tokenizer
        self._syntax = syntax
        #: Of each text that was read, the weight of each of its tokens.
        self.weights: dict[str, Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def read(self, text: str) -> list[list[Token]]:
        """The tokens of ``text`` with their weights, by the chunks that its BREAKs make."""
        pieces = parse(text) if self._syntax == "a1111" else [[Piece(text, 1.0)]]
        return [[Token(each, weight) for part, weight in chunk for each in self._ids(part)] for chunk in pieces]

    def _special(self, name: str) -> Token:
        return Token(getattr(self._tokenizer, f"{name}_token_id"), 1.0)

    def _ids(self, text: str) -> Sequence[int]:
        ids: Sequence[int] = self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def _answer(self, texts: Sequence[str], rows: Sequence[Sequence[Token]], seen: Sequence[int]) -> BatchEncoding:
        """``rows`` as tokenizers answer, padded already; of each, ``seen`` tokens are more than padding."""
        for text, row in zip(texts, rows, strict=True):
            # Pipelines ask again for all tokens, after those that they use, only to warn of the rest.
            self.weights.setdefault(text, torch.tensor([token.weight for token in row]))
        ids = torch.tensor([[token.id for token in row] for row in rows])
        mask = torch.tensor([[int(place < count) for place in range(ids.shape[1])] for count in seen])
        return BatchEncoding({"input_ids": ids, "attention_mask": mask})


class ClipTokenizer(PromptTokenizer):
    """For an encoder that reads 77 tokens at a time: as many chunks as a prompt needs, one behind the other."""

    def __init__(self, tokenizer: Any, syntax: PromptSyntax, words: Mapping[str, Sequence[int]] | None = None) -> None:
        """``words`` are tokens of their own (``embeddings.py``)."""
        super().__init__(tokenizer, syntax)
        self._words = {name.casefold(): ids for name, ids in (words or {}).items()}
        names = sorted(map(re.escape, self._words), key=len, reverse=True)
        self._word = re.compile(rf"(?<!\w)({'|'.join(names)})(?!\w)", re.IGNORECASE) if names else None
        #: At least so many: positive and negative prompt have to be of one length.
        self.chunks = 1

    def _ids(self, text: str) -> Sequence[int]:
        if self._word is None:
            return super()._ids(text)
        ids: list[int] = []
        for place, part in enumerate(self._word.split(text)):
            ids += self._words[part.casefold()] if place % 2 else super()._ids(part)
        return ids

    def chunks_of(self, text: str) -> list[list[Token]]:
        """The tokens of ``text`` by chunks that the encoder can read."""
        room = self._tokenizer.model_max_length - 2
        comma = self._tokenizer.convert_tokens_to_ids(",</w>")
        return [part for chunk in self.read(text) for part in _cut(chunk, room, comma)]

    def __call__(self, texts: str | list[str], **_: Any) -> BatchEncoding:
        """(rows, chunks x 77), whatever length was asked for."""
        texts = [texts] if isinstance(texts, str) else texts
        begin, end, fill = self._special("bos"), self._special("eos"), self._special("pad")
        size = self._tokenizer.model_max_length
        rows = []
        for text in texts:
            chunks = self.chunks_of(text)
            chunks += [[] for _ in range(self.chunks - len(chunks))]
            filled = [[begin, *chunk, end, *[fill] * (size - 2 - len(chunk))] for chunk in chunks]
            rows.append([token for chunk in filled for token in chunk])
        return self._answer(texts, rows, [len(row) for row in rows])


class OneRowTokenizer(PromptTokenizer):
    """For an encoder that reads up to a length that its pipeline says: what is cut off is noted in ``unseen``."""

    def __init__(self, tokenizer: Any, syntax: PromptSyntax, unseen: list[str]) -> None:
        super().__init__(tokenizer, syntax)
        self._unseen = unseen

    def __call__(self, texts: Any, max_length: int | None = None, **options: Any) -> Any:
        whole = [texts] if isinstance(texts, str) else texts
        if not isinstance(whole, list) or not all(isinstance(text, str) for text in whole):
            return self._tokenizer(texts, max_length=max_length, **options)
        said = [self._without_syntax(text) for text in whole]
        if max_length is not None and options.get("truncation"):
            self._note_unseen(said, max_length)
        if all(token.weight == 1 for text in whole for chunk in self.read(text) for token in chunk):
            return self._tokenizer(said, max_length=max_length, **options)
        return self._weighted(whole, max_length)

    def _without_syntax(self, text: str) -> str:
        if self._syntax == "plain":
            return text
        return " ".join("".join(piece.text for piece in chunk) for chunk in parse(text))

    def _note_unseen(self, texts: Sequence[str], most: int) -> None:
        for text in texts:
            ids: list[int] = self._tokenizer(text, verbose=False).input_ids
            special = len(ids) - len(self._ids(text))
            if len(ids) > most:
                rest: str = self._tokenizer.decode(ids[most - special :], skip_special_tokens=True)
                self._unseen.append(_shortened(rest.strip()))

    def _weighted(self, texts: Sequence[str], max_length: int | None) -> BatchEncoding:
        end, fill = self._special("eos"), self._special("pad")
        read = [[token for chunk in self.read(text) for token in chunk] for text in texts]
        size = max_length or max(len(row) + 1 for row in read)
        rows = [[*row[: size - 1], end] for row in read]
        return self._answer(texts, [[*row, *[fill] * (size - len(row))] for row in rows], [len(row) for row in rows])


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _cut(tokens: list[Token], room: int, comma: int) -> list[list[Token]]:
    """``tokens`` in pieces of at most ``room``, cut behind a comma if there is one near the end."""
    parts = []
    while len(tokens) > room:
        near = range(room - 1, max(room - 1 - _MOST_MOVED_TOKENS, 0), -1)
        end = next((place + 1 for place in near if tokens[place].id == comma), room)
        parts.append(tokens[:end])
        tokens = tokens[end:]
    return [*parts, tokens]
