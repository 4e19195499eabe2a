"""The tokenizer: CLIP's byte-level BPE, with merges that make a single token of every known word."""

import json
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from tools.train_doodle.captions import every_word

#: As in CLIP: start, 75 tokens of text, end.
MAX_TOKENS: Final = 77
_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORD_END: Final = "</w>"
#: More merges than all words together have letters: training stops when each word is one token.
_ENOUGH: Final = 20_000


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write the vocabulary and the merges to ``folder``, and load them."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=_ENOUGH, initial_alphabet=symbols, end_of_word_suffix=_WORD_END, show_progress=False
    )
    bpe.train_from_iterator(every_word(), trainer)
    bpe.model.save(str(folder))
    _complete(folder / "vocab.json", symbols)
    return load_tokenizer(folder)


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """What `build_tokenizer` wrote to ``folder``."""
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=MAX_TOKENS)


def unpack_tokenizer(exported: Path, folder: Path) -> None:
    """Write to ``folder`` what an exported model's ``tokenizer.json`` holds: training anew numbers equal pairs anew."""
    bpe = json.loads(exported.read_text("utf-8"))["model"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(bpe["vocab"], ensure_ascii=False), "utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in bpe["merges"]]
    (folder / "merges.txt").write_text("\n".join(("#version: 0.2", *merges, "")), "utf-8")


def unpacked(model: Path, work: Path) -> CLIPTokenizer:
    """The tokenizer of an exported model, unpacked below ``work``."""
    folder = work / "exported-tokenizer"
    unpack_tokenizer(model / "tokenizer" / "tokenizer.json", folder)
    return load_tokenizer(folder)


def _complete(vocabulary: Path, symbols: list[str]) -> None:
    """Every byte can end a word, and texts have a start and an end."""
    ids: dict[str, int] = json.loads(vocabulary.read_text("utf-8"))
    for token in (*symbols, *(symbol + _WORD_END for symbol in symbols), _START, _END):
        ids.setdefault(token, len(ids))
    vocabulary.write_text(json.dumps(ids, ensure_ascii=False), "utf-8")
