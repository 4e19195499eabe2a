"""Saying what a scene shows: a word, a usual caption, or a free sentence; some wordings are kept for evaluation."""

import random
from typing import Final

from tools.train_doodle import wordings
from tools.train_doodle.scenes import COLOURS, Scene
from tools.train_doodle.vocabulary import (
    COLOUR_WORDS,
    FILLERS,
    KINDS,
    PLACE_WORDS,
    SIZE_WORDS,
    SUBJECT_WORDS,
    colour_word,
    plural,
    subject_word,
    unknown_word,
    with_article,
)

_GROUNDS: Final = (
    "on a {} background", "on a {} background", "on a {} ground", "on {}", "with a {} background", "{} background",
    "in front of a {} background", "over a {} background", "against a {} background",
)  # fmt: skip
#: How often a caption leaves out what it could say.
_NO_SIZE, _NO_PLACE, _NO_COLOUR, _NO_GROUND = 0.2, 0.2, 0.2, 0.3
_EMPTY, _ONE_WORD, _NO_SUBJECT, _NOISY = 0.1, 0.08, 0.05, 0.15
#: How many of the other captions are free sentences.
_FREE: Final = 0.6


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many captions of ``scene``; one in ten says nothing, which is what guidance starts from."""
    kind = rng.random()
    if kind < _EMPTY:
        return ""
    if kind < _EMPTY + _ONE_WORD:
        return subject_word(scene, rng)
    if kind < _EMPTY + _ONE_WORD + _NO_SUBJECT:
        return _without_subject(scene, rng)
    if rng.random() < _FREE:
        return _noisy(wordings.sentence(scene, rng), rng)
    return _noisy(_usual(scene, rng), rng)


def held_out_caption(scene: Scene, rng: random.Random) -> str:
    """A caption that names all of subject, colour and ground, in a wording that training never saw."""
    return wordings.filled(rng.choice(wordings.HELD_OUT_WORDINGS), scene, rng)


def every_word() -> list[str]:
    """All words that captions are made of, each to become a single token."""
    groups = (*SUBJECT_WORDS.values(), *COLOUR_WORDS.values(), *SIZE_WORDS.values(), *PLACE_WORDS.values())
    texts = [text for group in groups for text in group]
    texts += [plural(word) for group in SUBJECT_WORDS.values() for word in group]
    texts += [*COLOURS, *KINDS, *_GROUNDS, *FILLERS, *wordings.every_phrase(), "a an the of one in with"]
    words = {word.strip("{}(),.;:!") for text in texts for word in text.split()}
    return sorted(word for word in words if word.isalpha() and len(word) > 1)


def _usual(scene: Scene, rng: random.Random) -> str:
    parts = [_thing(scene, rng)]
    if rng.random() >= _NO_GROUND:
        ground = rng.choice(_GROUNDS).format(colour_word(scene.ground, rng))
        parts.append(ground)
    place = rng.choice(PLACE_WORDS[scene.place])
    if place and rng.random() >= _NO_PLACE:
        parts.append(place)
    if rng.random() < 0.25:
        rng.shuffle(parts)
    return rng.choice((" ", " ", ", ")).join(parts)


def _thing(scene: Scene, rng: random.Random) -> str:
    words = []
    if rng.random() >= _NO_SIZE:
        words.append(rng.choice(SIZE_WORDS[scene.size]))
    coloured = rng.random() >= _NO_COLOUR
    if coloured:
        words.append(colour_word(scene.colour, rng))
    subject = subject_word(scene, rng)
    thing = " ".join(word for word in (*words, subject) if word)
    style = rng.random()
    if style < 0.45:
        thing = with_article(thing)
    elif style < 0.55:
        thing = f"the {thing}"
    elif style < 0.75:
        thing = f"{with_article(rng.choice(KINDS))} of {with_article(thing)}"
    elif style < 0.8:
        thing = f"{thing} {rng.choice(KINDS)}"
    return thing


def _without_subject(scene: Scene, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(_GROUNDS).format(colour_word(scene.ground, rng))
    return colour_word(scene.colour, rng)


def _noisy(text: str, rng: random.Random) -> str:
    """Sometimes with words that say nothing, or that nobody knows."""
    if rng.random() >= _NOISY:
        return text
    word = rng.choice(FILLERS) if rng.random() < 0.6 else unknown_word(rng)
    return rng.choice((f"{word} {text}", f"{text} {word}", f"{text}, {word}", f"{word}, {text}"))
