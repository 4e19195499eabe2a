"""``encode_prompt`` of diffusers' pipelines for prompts with weights and of any length.

Which encoders a model has, how their answers are joined, which layer is taken: all that stays the pipeline's affair.
Its tokenizers are replaced while it encodes, its CLIP encoders read several chunks, and what comes out is multiplied by
the weights.
"""

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from stablediffusiond.engine.embeddings import Embedding
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.engine.prompts.tokenizers import ClipTokenizer, OneRowTokenizer, PromptTokenizer
from stablediffusiond.messages.prompt_syntax import PromptSyntax, is_plain

#: A tokenizer of a pipeline, and the encoder that reads what it gives.
_READERS: Final = {f"tokenizer{end}": f"text_encoder{end}" for end in ("", "_2", "_3", "_4")}
_TEXTS: Final = ("prompt", "negative_prompt")


@dataclass(frozen=True)
class Encoded:
    """What ``encode_prompt`` returned, and what of the prompts no encoder has seen."""

    embeddings: Any
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """How prompts are read."""

    syntax: PromptSyntax = "a1111"
    embeddings: tuple[Embedding, ...] = ()  #: whose names are words of their own


def weighs_words(pipeline: Pipeline) -> bool:
    """Whether prompts for this model may have weights: those that are read by CLIP, alone or with others."""
    return bool(clip_encoders(pipeline))


def clip_encoders(pipeline: Pipeline) -> dict[str, Any]:
    """The text encoders of ``pipeline`` that read 77 tokens at a time, by the names of their components."""
    if not hasattr(pipeline, "encode_prompt"):
        return {}
    return {_READERS[name]: encoder for name, encoder in _readers(pipeline) if is_clip(encoder)}


def read_in_chunks(encoder: nn.Module) -> None:
    """Have a CLIP text encoder read rows of several chunks: as more rows, so that they meet those of other prompts."""
    config: Any = encoder.config
    original, size = encoder.forward, int(config.max_position_embeddings)
    if not hasattr(encoder, "text_model"):  # where diffusers looks for the last norm, and transformers had it
        encoder.__dict__["text_model"] = encoder

    @functools.wraps(original)
    def forward(input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        chunks = input_ids.shape[1] // size
        if chunks <= 1:
            return original(input_ids, *args, **kwargs)
        masks = {name: value.reshape(-1, size) for name, value in kwargs.items() if isinstance(value, Tensor)}
        read = original(input_ids.reshape(-1, size), *args, **{**kwargs, **masks})

        def joined(hidden: Tensor) -> Tensor:
            if hidden.ndim < 3:
                return hidden[::chunks]  # one for a prompt: that of the first chunk, as in A1111
            return hidden.reshape(-1, chunks * size, hidden.shape[-1])

        for name, value in list(read.items()):
            read[name] = tuple(map(joined, value)) if isinstance(value, tuple) else joined(value)
        return read

    encoder.forward = forward


def watched(pipeline: Pipeline) -> list[str]:
    """Where a pipeline encodes prompts in a way of its own: what will have been cut off of them."""
    unseen: list[str] = []
    for name, _ in _readers(pipeline):
        pipeline.__dict__[name] = OneRowTokenizer(getattr(pipeline, name), "plain", unseen)
    return unseen


def encode(
    pipeline: Pipeline, original: Any, reading: Reading, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Encoded:
    """``original``, the ``encode_prompt`` of one image's ``pipeline``, called; with the weights of its prompts."""
    given = inspect.signature(original).bind(*args, **kwargs).arguments
    texts = [text for name in _TEXTS if isinstance(text := _one_text(given.get(name)), str)]
    unseen: list[str] = []
    tokenizers = _tokenizers(pipeline, reading if weighs_words(pipeline) else Reading("plain"), texts, unseen)
    before = {name: getattr(pipeline, name) for name in tokenizers}
    pipeline.__dict__.update(tokenizers)
    try:
        found = original(*args, **kwargs)
    finally:
        pipeline.__dict__.update(before)
    return Encoded(_weighted(found, pipeline, tokenizers, original, given), tuple(dict.fromkeys(unseen)))


def _one_text(text: Any) -> Any:
    return text[0] if isinstance(text, list) and len(text) == 1 else text


def _readers(pipeline: Pipeline) -> Iterator[tuple[str, Any]]:
    for tokenizer, encoder in _READERS.items():
        if getattr(pipeline, tokenizer, None) is not None and getattr(pipeline, encoder, None) is not None:
            yield tokenizer, getattr(pipeline, encoder)


def is_clip(encoder: Any) -> bool:
    """Whether it is a text encoder that reads 77 tokens at a time."""
    return isinstance(encoder, CLIPTextModel | CLIPTextModelWithProjection)


def _tokenizers(
    pipeline: Pipeline, reading: Reading, texts: Sequence[str], unseen: list[str]
) -> dict[str, PromptTokenizer]:
    """What stands in for the tokenizers of ``pipeline``: not for those of CLIP, where prompts are short and plain."""
    made: dict[str, PromptTokenizer] = {}
    plain = reading.syntax == "plain" or (all(map(is_plain, texts)) and not reading.embeddings)
    for name, encoder in _readers(pipeline):
        own = getattr(pipeline, name)
        if is_clip(encoder):
            words = {each.name: each.ids[_READERS[name]] for each in reading.embeddings}
            made[name] = ClipTokenizer(own, reading.syntax, words)
        else:
            made[name] = OneRowTokenizer(own, reading.syntax, unseen)
    clip = {name: each for name, each in made.items() if isinstance(each, ClipTokenizer)}
    lengths = [len(each.chunks_of(_converted(text, pipeline, each))) for each in clip.values() for text in texts]
    chunks = max(lengths, default=1)
    for name, each in clip.items():
        each.chunks = chunks
        if chunks == 1 and plain:
            del made[name]
    return made


def _converted(text: str, pipeline: Pipeline, tokenizer: Any) -> str:
    """With the words of textual inversion as the tokens that they are."""
    convert = getattr(pipeline, "maybe_convert_prompt", None)
    return text if convert is None else str(convert(text, tokenizer))


def _weighted(
    found: Any, pipeline: Pipeline, tokenizers: Mapping[str, PromptTokenizer], original: Any, given: Mapping[str, Any]
) -> Any:
    """``found`` with the weights: first are the prompt's embeddings, (1, tokens, width), then the negative prompt's."""
    if not isinstance(found, tuple | list):
        return found
    names = [name for name in _TEXTS if name in inspect.signature(original).parameters]
    weighted = list(found)
    for place, name in enumerate(names):
        text = _one_text(given.get(name))
        if isinstance(text, str) and isinstance(found[place], Tensor) and found[place].ndim == 3:
            weighted[place] = _multiplied(found[place], pipeline, tokenizers, text)
    return type(found)(weighted)


def _multiplied(embeddings: Tensor, pipeline: Pipeline, tokenizers: Mapping[str, PromptTokenizer], text: str) -> Tensor:
    """The embeddings of ``text`` times its weights.

    CLIP's keep their mean, encoder by encoder, as A1111 has it; those of T5, whose mean is about nought, do not.
    """
    clip: list[tuple[Any, Tensor]] = []
    other: list[Tensor] = []
    for name, tokenizer in tokenizers.items():
        weights = tokenizer.weights.get(_converted(text, pipeline, tokenizer), tokenizer.weights.get(text))
        if weights is not None and isinstance(tokenizer, ClipTokenizer):
            clip.append((getattr(pipeline, _READERS[name]), weights))
        elif weights is not None:
            other.append(weights)
    result, length, first = embeddings.clone(), embeddings.shape[1], 0
    after = sum(len(weights) for weights in other[:1])
    for encoder, weights in clip:
        width = encoder.config.hidden_size
        if len(weights) + after == length:  # else what CLIP says is not among these embeddings
            part = result[:, : len(weights), first : first + width]
            part.copy_(_with_its_mean(part, weights))
            first += width
    for weights in other:
        result[:, length - len(weights) :] *= weights.to(result)[None, :, None]
    return result


def _with_its_mean(embeddings: Tensor, weights: Tensor) -> Tensor:
    if bool((weights == 1).all()):
        return embeddings
    weighted = embeddings * weights.to(embeddings)[None, :, None]
    return weighted * (embeddings.mean() / weighted.mean())
