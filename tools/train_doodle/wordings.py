"""Free sentences: thousands of wordings out of two lists of phrases, one for the subject and one for the ground.

A *pair* is one phrase for the subject and one for the ground. Pairs are kept for the evaluation whole: in training they
occur in neither order, and with nothing between them. So are the wordings below, whose phrases training has in no pair.

Slots: {n} is the subject with its size, {s} that with its colour, {c} the subject's colour, {g} the ground's.
"""

import hashlib
import itertools
import random
from typing import Final

from tools.train_doodle.scenes import Scene
from tools.train_doodle.vocabulary import (
    KINDS,
    PLACE_WORDS,
    SIZE_WORDS,
    colour_word,
    subject_word,
    unknown_word,
    with_articles_right,
)

#: A ground's phrase may follow these without a comma …
_THINGS: Final = (
    "a {s}", "the {s}", "{s}", "one {s}", "this {s}", "some {s}", "my {s}", "a {n} in {c}", "{n} in {c}",
    "the {n} in {c}", "a {n} that is {c}", "a {n} which is {c}", "a {n} coloured {c}", "a {c} coloured {n}",
    "a {c} colored {n}", "a {n} of {c} color", "a {n} of {c} colour", "a {n} painted {c}", "a {c} painted {n}",
    "a {n} all in {c}", "a {k} of a {s}", "a {k} of a {n} in {c}", "{s} {k}", "draw a {s}", "show me a {s}",
    "i want a {s}", "give me a {s}", "i want to see a {s}", "paint a {s}", "can you draw a {s}", "there is a {s}",
    "here is a {s}", "only a {s}", "a single {s}", "just one {s}", "a {k} with a {s}", "a {k} that shows a {s}",
)  # fmt: skip
#: … these are sentences.
_SUBJECT_CLAUSES: Final = (
    "the {n} is {c}", "a {n} is {c}", "the {n} should be {c}", "the {n} must be {c}", "make the {n} {c}",
    "make it a {s}", "color the {n} {c}", "paint the {n} {c}", "fill the {n} with {c}", "a {n}, its color is {c}",
    "a {n}, it is {c}", "a {n} and it is {c}", "the color of the {n} is {c}", "the {n} has the color {c}",
    "the {n} has a {c} color", "{c} is the color of the {n}", "{c} is the {n}", "it is a {s}", "it shows a {s}",
    "{n}: {c}", "{n} = {c}", "{n} {c}", "{n} ({c})", "{n}, {c}", "subject: {s}", "a {n}; color: {c}",
    "what you see is a {s}", "in the middle is a {s}", "we see a {s}", "for the {n} use {c}", "use {c} for the {n}",
)  # fmt: skip
_GROUND_PHRASES: Final = (
    "on {g}", "on a {g} background", "on the {g} background", "on a plain {g} background", "on a {g} ground",
    "on a background of {g}", "on a background that is {g}", "on a background in {g}", "with a {g} background",
    "with a background of {g}", "with {g} behind it", "with {g} around it", "with {g} in the background",
    "with only {g} behind it", "surrounded by {g}", "against {g}", "against a {g} background", "before {g}",
    "in front of a {g} background", "where the background is {g}", "and a {g} background", "and {g} behind it",
    "in a {g} {k}", "upon {g}", "on {g} paper", "on a {g} page", "over a {g} background", "standing on {g}",
)  # fmt: skip
_GROUND_CLAUSES: Final = (
    "the background is {g}", "its background is {g}", "the background is all {g}", "the background is plain {g}",
    "the background should be {g}", "the background must be {g}", "the background has the color {g}",
    "make the background {g}", "color the background {g}", "paint the background {g}", "fill the background with {g}",
    "the color of the background is {g}", "{g} is the color of the background", "{g} is the background",
    "the ground is {g}", "the ground should be {g}", "behind it is {g}", "behind it there is {g}", "{g} is behind it",
    "everything behind it is {g}", "everything else is {g}", "the rest is {g}", "all around it is {g}",
    "background: {g}", "background = {g}", "background {g}", "background ({g})", "background in {g}",
    "{g} background", "a {g} background", "{g} ground", "for the background use {g}", "use {g} for the background",
    "in the background is {g}", "in the background there is only {g}",
)  # fmt: skip
_BETWEEN: Final = (", ", ", ", ", ", " and ", ", and ", ". ", "; ", " ", " while ", ", but ", " | ")

#: Never trained on, nor is any pair of theirs: what people might write.
HELD_OUT_WORDINGS: Final = (
    "a {g} background with a {s} on it",
    "a {s} in front of {g}",
    "there is a {s} on the {g} background",
    "show me a {s}, {g} background please",
    "{g} ground, a {s}",
    "a simple cartoon of a {s} over {g}",
    "the {n} is {c}, the background is {g}",
    "the background is {g} and the {n} is {c}",
    "a {g} picture with a {s} in it",
    "{g} everywhere, and on it a {s}",
    "i would like a {s} and {g} as the background",
    "could you please draw a {s} on something {g}",
    "behind the {s} there is nothing but {g}",
    "{g} behind a {s}",
    "a {s} stands before a {g} wall",
    "the {n} in this image is {c} and what lies behind it is {g}",
    "a {c} {n}! and a {g} background!",
    "my {n} has turned {c}, on {g}",
    "{n}, {c}, {g} background",
    "let the {n} be {c} and let the background be {g}",
    "a sheet of {g} with a {s}",
    "colors: {c} for the {n}, {g} for the background",
)
#: Of which some of these are made.
_HELD_OUT_PAIRS: Final = (
    ("there is a {s}", "on the {g} background"), ("show me a {s}", "{g} background"), ("a {s}", "{g} ground"),
    ("the {n} is {c}", "the background is {g}"), ("{n}, {c}", "{g} background"),
)  # fmt: skip
#: Of the others one in so many is held out, but for what `captions` says in its own way.
_HELD_OUT_OF: Final = 6
_USUAL_THINGS: Final = ("a {s}", "the {s}", "{s}", "a {k} of a {s}", "{s} {k}")
#: How often a sentence says nothing of the ground, or where the subject is, or has a word in it that nobody knows.
_NO_GROUND, _SAYS_PLACE, _STRAY_WORD = 0.12, 0.7, 0.2

Pair = tuple[str, str]


def every_phrase() -> list[str]:
    return [*_THINGS, *_SUBJECT_CLAUSES, *_GROUND_PHRASES, *_GROUND_CLAUSES, *HELD_OUT_WORDINGS]


def pairs(*, held_out: bool) -> list[Pair]:
    """All that training may see, or all that it may not."""
    every = itertools.product((*_THINGS, *_SUBJECT_CLAUSES), (*_GROUND_PHRASES, *_GROUND_CLAUSES))
    return [pair for pair in every if _is_held_out(pair) == held_out]


def sentence(scene: Scene, rng: random.Random) -> str:
    """For training."""
    subject, ground = rng.choice(_TRAINED)
    template = subject if rng.random() < _NO_GROUND else _joined(subject, ground, rng)
    place = rng.choice(PLACE_WORDS[scene.place])
    if place and rng.random() < _SAYS_PLACE:
        template = f"{template}{rng.choice((' ', ', '))}{place}"
    if rng.random() < _STRAY_WORD:
        template = _with_stray_word(template, rng)
    return filled(template, scene, rng)


def held_out_templates() -> list[str]:
    """Those above, and one of each pair that training never saw."""
    rng = random.Random("templates")
    return [*HELD_OUT_WORDINGS, *(_joined(subject, ground, rng) for subject, ground in pairs(held_out=True))]


def filled(template: str, scene: Scene, rng: random.Random) -> str:
    size = rng.choice(SIZE_WORDS[scene.size])
    colour, ground = colour_word(scene.colour, rng), colour_word(scene.ground, rng)
    subject = subject_word(scene, rng, plurals=False)
    named, coloured = (" ".join(filter(None, words)) for words in ((size, subject), (size, colour, subject)))
    return with_articles_right(template.format(n=named, s=coloured, c=colour, g=ground, k=rng.choice(KINDS)))


def _joined(subject: str, ground: str, rng: random.Random) -> str:
    """The two behind each other, in either order."""
    if rng.random() < 0.35:
        return f"{ground}{rng.choice(_BETWEEN)}{subject}"
    follows = subject in _THINGS and ground in _GROUND_PHRASES
    return f"{subject}{' ' if follows else rng.choice(_BETWEEN)}{ground}"


def _with_stray_word(template: str, rng: random.Random) -> str:
    words = template.split(" ")
    words.insert(rng.randint(0, len(words)), unknown_word(rng))
    return " ".join(words)


def _is_held_out(pair: Pair) -> bool:
    if pair in _HELD_OUT_PAIRS:
        return True
    if pair[0] in _USUAL_THINGS:
        return False
    return hashlib.sha256("/".join(pair).encode()).digest()[0] % _HELD_OUT_OF == 0


_TRAINED: Final = pairs(held_out=False)
