"""The tokenizer of CLIP, which single files do not hold, made from the vocabulary that comes with the package.

The vocabulary follows from the merges: 256 bytes, the same at the end of a word, what each merge makes, and two marks.
"""

import functools
import gzip
import json
import tempfile
from pathlib import Path
from typing import Final

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

_MERGES: Final = Path(__file__).parent / "clip/merges.txt.gz"
_LENGTH: Final = 77
_WORD_END: Final = "</w>"


@functools.cache
def _merges() -> list[str]:
    return gzip.decompress(_MERGES.read_bytes()).decode("utf-8").splitlines()


def _vocabulary() -> list[str]:
    # OpenAI numbered the printable characters first, in the order of their code points, and then the others.
    letters = sorted(ByteLevel.alphabet())
    whole = [merge.replace(" ", "") for merge in _merges()]
    return [*letters, *(letter + _WORD_END for letter in letters), *whole, "<|startoftext|>", "<|endoftext|>"]


def clip_tokenizer(padding: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's tokenizer, which fills prompts up with the token ``padding``."""
    with tempfile.TemporaryDirectory() as name:
        vocabulary, merges = Path(name) / "vocab.json", Path(name) / "merges.txt"
        numbered = {word: number for number, word in enumerate(_vocabulary())}
        vocabulary.write_text(json.dumps(numbered, ensure_ascii=False), "utf-8")
        merges.write_text("\n".join(("#version: 0.2", *_merges(), "")), "utf-8")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=_LENGTH, pad_token=padding)
