"""Saying what a scene shows, in many wordings; some wordings are kept for evaluation."""

import random
from typing import Final

from tools.train_doodle.scenes import COLOURS, Scene

#: Other words for the same things; the first is the usual one.
_SUBJECT_WORDS: Final = {
    "circle": ("circle", "disc", "ball"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
    "heart": ("heart",), "cat": ("cat", "kitten"), "dog": ("dog", "puppy"), "house": ("house", "home"),
    "tree": ("tree",), "flower": ("flower",), "fish": ("fish",), "car": ("car",), "moon": ("moon",),
    "boat": ("boat", "ship"),
}  # fmt: skip
_PLURALS: Final = {"fish": "fish", "box": "boxes", "kitten": "kittens", "puppy": "puppies"}
_COLOUR_WORDS: Final = {"gray": ("gray", "grey"), "purple": ("purple", "violet"), "cyan": ("cyan", "turquoise")}
_SIZE_WORDS: Final = {"normal": ("",), "small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
_PLACE_WORDS: Final = {
    "middle": ("",),
    "left": ("on the left", "at the left", "left", "on the left side"),
    "right": ("on the right", "at the right", "right", "on the right side"),
    "top": ("at the top", "top", "on top"),
    "bottom": ("at the bottom", "bottom", "on the bottom"),
}
_KINDS: Final = ("picture", "drawing", "image", "photo", "painting", "cartoon", "sketch", "illustration")
_GROUNDS: Final = (
    "on a {} background", "on a {} background", "on a {} ground", "on {}", "with a {} background", "{} background",
    "in front of a {} background", "over a {} background", "against a {} background",
)  # fmt: skip
#: What people write around what they want; none of it says anything about the picture.
_FILLERS: Final = (
    "please", "nice", "beautiful", "simple", "cute", "masterpiece", "best quality", "highly detailed", "8k", "flat",
    "clean", "minimal", "trending", "an amazing", "lovely", "draw", "show me", "i want", "very",
)  # fmt: skip

#: Words of the evaluation's wordings that no other caption brings.
_MORE_WORDS: Final = ("is", "its", "there", "and", "coloured", "colored", "plain", "color", "colour", "behind", "it")

#: Never trained on: {s} the subject with its article, size and colour, {g} the ground.
HELD_OUT_WORDINGS: Final = (
    "a {g} background with {s} on it",
    "{s} in front of {g}",
    "there is {s} on the {g} background",
    "show me {s}, {g} background please",
    "{g} ground, {s}",
    "a simple cartoon of {s} over {g}",
)
#: How often a caption leaves out what it could say.
_NO_SIZE, _NO_PLACE, _NO_COLOUR, _NO_GROUND = 0.2, 0.2, 0.2, 0.3
_EMPTY, _ONE_WORD, _NO_SUBJECT, _NOISY = 0.1, 0.08, 0.05, 0.15


def caption(scene: Scene, rng: random.Random) -> str:
    """One of the many captions of ``scene``; one in ten says nothing, which is what guidance starts from."""
    kind = rng.random()
    if kind < _EMPTY:
        return ""
    if kind < _EMPTY + _ONE_WORD:
        return _subject_word(scene, rng)
    if kind < _EMPTY + _ONE_WORD + _NO_SUBJECT:
        return _without_subject(scene, rng)
    return _noisy(_sentence(scene, rng), rng)


def held_out_caption(scene: Scene, rng: random.Random) -> str:
    """A caption that names all of subject, colour and ground, in a wording that training never saw."""
    size = rng.choice(_SIZE_WORDS[scene.size])
    thing = " ".join(word for word in (size, _colour_word(scene.colour, rng), scene.subject) if word)
    return rng.choice(HELD_OUT_WORDINGS).format(s=_with_article(thing), g=_colour_word(scene.ground, rng))


def every_word() -> list[str]:
    """All words that captions are made of, each to become a single token."""
    groups = (*_SUBJECT_WORDS.values(), *_COLOUR_WORDS.values(), *_SIZE_WORDS.values(), *_PLACE_WORDS.values())
    texts = [text for group in groups for text in group]
    texts += [_plural(word) for group in _SUBJECT_WORDS.values() for word in group]
    texts += [*COLOURS, *_KINDS, *_GROUNDS, *_FILLERS, *_MORE_WORDS, *HELD_OUT_WORDINGS, "a an the of one in with"]
    words = {word.strip("{},") for text in texts for word in text.split()}
    return sorted(word for word in words if word.isalpha() and len(word) > 1)


def _sentence(scene: Scene, rng: random.Random) -> str:
    parts = [_thing(scene, rng)]
    if rng.random() >= _NO_GROUND:
        ground = rng.choice(_GROUNDS).format(_colour_word(scene.ground, rng))
        parts.append(ground)
    place = rng.choice(_PLACE_WORDS[scene.place])
    if place and rng.random() >= _NO_PLACE:
        parts.append(place)
    if rng.random() < 0.25:
        rng.shuffle(parts)
    return rng.choice((" ", " ", ", ")).join(parts)


def _thing(scene: Scene, rng: random.Random) -> str:
    words = []
    if rng.random() >= _NO_SIZE:
        words.append(rng.choice(_SIZE_WORDS[scene.size]))
    coloured = rng.random() >= _NO_COLOUR
    if coloured:
        words.append(_colour_word(scene.colour, rng))
    subject = _subject_word(scene, rng)
    thing = " ".join(word for word in (*words, subject) if word)
    style = rng.random()
    if style < 0.45:
        thing = _with_article(thing)
    elif style < 0.55:
        thing = f"the {thing}"
    elif style < 0.75:
        thing = f"{_with_article(rng.choice(_KINDS))} of {_with_article(thing)}"
    elif style < 0.8:
        thing = f"{thing} {rng.choice(_KINDS)}"
    return thing


def _without_subject(scene: Scene, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(_GROUNDS).format(_colour_word(scene.ground, rng))
    return _colour_word(scene.colour, rng)


def _noisy(text: str, rng: random.Random) -> str:
    """Sometimes with words that say nothing, or that nobody knows."""
    if rng.random() >= _NOISY:
        return text
    word = rng.choice(_FILLERS) if rng.random() < 0.6 else _unknown_word(rng)
    return rng.choice((f"{word} {text}", f"{text} {word}", f"{text}, {word}", f"{word}, {text}"))


def _unknown_word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8)))


def _subject_word(scene: Scene, rng: random.Random) -> str:
    words = _SUBJECT_WORDS[scene.subject]
    word = words[0] if rng.random() < 0.8 else rng.choice(words)
    return _plural(word) if rng.random() < 0.08 else word


def _plural(word: str) -> str:
    return _PLURALS.get(word, f"{word}s")


def _colour_word(colour: str, rng: random.Random) -> str:
    return rng.choice(_COLOUR_WORDS.get(colour, (colour,)))


def _with_article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
