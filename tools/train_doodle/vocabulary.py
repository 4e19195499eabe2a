"""The words for what there is in a scene; of other words for the same thing the first is the usual one."""

import random
import re
from typing import Final

from tools.train_doodle.scenes import Scene

SUBJECT_WORDS: Final = {
    "circle": ("circle", "disc", "ball"), "square": ("square", "box"), "triangle": ("triangle",), "star": ("star",),
    "heart": ("heart",), "cat": ("cat", "kitten"), "dog": ("dog", "puppy"), "house": ("house", "home"),
    "tree": ("tree",), "flower": ("flower",), "fish": ("fish",), "car": ("car",), "moon": ("moon",),
    "boat": ("boat", "ship"),
}  # fmt: skip
COLOUR_WORDS: Final = {"gray": ("gray", "grey"), "purple": ("purple", "violet"), "cyan": ("cyan", "turquoise")}
SIZE_WORDS: Final = {"normal": ("",), "small": ("small", "little", "tiny"), "big": ("big", "large", "huge")}
PLACE_WORDS: Final = {
    "middle": ("",),
    "left": ("on the left", "at the left", "left", "on the left side"),
    "right": ("on the right", "at the right", "right", "on the right side"),
    "top": ("at the top", "top", "on top"),
    "bottom": ("at the bottom", "bottom", "on the bottom"),
}
KINDS: Final = ("picture", "drawing", "image", "photo", "painting", "cartoon", "sketch", "illustration")
#: What people write around what they want; none of it says anything about the picture.
FILLERS: Final = (
    "please", "nice", "beautiful", "simple", "cute", "masterpiece", "best quality", "highly detailed", "8k", "flat",
    "clean", "minimal", "trending", "an amazing", "lovely", "draw", "show me", "i want", "very",
)  # fmt: skip
_PLURALS: Final = {"fish": "fish", "box": "boxes", "kitten": "kittens", "puppy": "puppies"}
_BEFORE_A_VOWEL: Final = re.compile(r"\ba (?=[aeiou])")


def subject_word(scene: Scene, rng: random.Random, *, plurals: bool = True) -> str:
    words = SUBJECT_WORDS[scene.subject]
    word = words[0] if rng.random() < 0.8 else rng.choice(words)
    return plural(word) if plurals and rng.random() < 0.08 else word


def plural(word: str) -> str:
    return _PLURALS.get(word, f"{word}s")


def colour_word(colour: str, rng: random.Random) -> str:
    return rng.choice(COLOUR_WORDS.get(colour, (colour,)))


def with_article(thing: str) -> str:
    return with_articles_right(f"a {thing}")


def with_articles_right(text: str) -> str:
    """The text with "an" where a vowel follows."""
    return _BEFORE_A_VOWEL.sub("an ", text)


def unknown_word(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8)))
