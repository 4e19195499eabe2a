"""What was asked for, what came, and whether the two fit: every job by its id."""

import io
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

from stablediffusiond.frames import Frame
from tests.faults import prompts

Fields = dict[str, object]

#: A picture that was drawn beside others may differ in the last bit of a float.
_PIXEL_TOLERANCE: Final = 1


@dataclass
class Account:
    """One job."""

    kind: str
    confirmed: bool = False  #: the broker has taken charge of it
    ends: list[Frame] = field(default_factory=list)
    pictures: dict[int, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  #: types of replies, repeats dropped


class Books:
    """Filled by a submitter and a reader, from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.accounts: dict[str, Account] = {}
        self._seen: set[str] = set()
        self.repeats = 0
        self.strangers: list[str] = []  #: replies to jobs that nobody asked for

    def open(self, job_id: str, kind: str) -> None:
        with self._changed:
            self.accounts[job_id] = Account(kind)

    def confirm(self, job_id: str) -> None:
        with self._changed:
            self.accounts[job_id].confirmed = True
            self._changed.notify_all()

    def enter(self, frame: Frame) -> None:
        """One reply as it came off the socket."""
        said = str(frame.head.get("message_id"))
        with self._changed:
            account = self.accounts.get(str(frame.head.get("id")))
            if account is None:
                self.strangers.append(said)
                return
            if said in self._seen:
                self.repeats += 1
                return
            self._seen.add(said)
            kind = str(frame.head["type"])
            account.order.append(kind)
            if kind == "image" and frame.data is not None:
                index = frame.head["index"]
                assert isinstance(index, int)
                account.pictures[index] = frame.data
            else:
                account.ends.append(frame)
            self._changed.notify_all()

    def wait_for_room(self, most: int, timeout_seconds: float) -> bool:
        """Wait until fewer than ``most`` jobs are open."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open < most, timeout_seconds)

    def has_ended(self, job_id: str) -> bool:
        with self._changed:
            return bool(self.accounts[job_id].ends)

    def wait_for_end(self, job_id: str, timeout_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.accounts[job_id].ends), timeout_seconds)

    def wait_for_ends(self, timeout_seconds: float) -> bool:
        """Wait until every job has ended."""
        return self.wait_for_room(1, timeout_seconds)

    @property
    def _open(self) -> int:
        return sum(not account.ends for account in self.accounts.values())

    @property
    def ended(self) -> int:
        with self._changed:
            return len(self.accounts) - self._open

    def overtaken(self) -> int:
        """Jobs whose end came before their last picture: a broken connection gave that back late."""
        return sum(bool(account.ends) and account.order[-1] == "image" for account in self.accounts.values())

    def lost(self) -> list[str]:
        """Jobs that were confirmed and have no end."""
        return [name for name, account in self.accounts.items() if account.confirmed and not account.ends]

    def wrong(self, reference: "dict[str, Account]") -> dict[str, str]:
        """Jobs whose replies are not those of an undisturbed run of the same kind, with what is wrong."""
        found = {}
        for name, account in self.accounts.items():
            if account.ends and (what := _differs(account, reference[account.kind])):
                found[name] = f"{account.kind}: {what}"
        return found

    def count_kinds(self) -> "Counter[str]":
        return Counter(account.kind for account in self.accounts.values())


def _differs(made: Account, expected: Account) -> str | None:
    ends = [frame.head["type"] for frame in made.ends]
    if len(ends) != 1:
        return f"ends {ends}, in the order {made.order}"
    if _outcome(made) != _outcome(expected):
        return f"{made.ends[0].head} and not {expected.ends[0].head}"
    if sorted(made.pictures) != sorted(expected.pictures):
        return f"pictures {sorted(made.pictures)}"
    for index, png in made.pictures.items():
        if png != expected.pictures[index] and (off := _distance(png, expected.pictures[index])) > _PIXEL_TOLERANCE:
            return f"picture {index} is off by {off}"
    return None


def _outcome(account: Account) -> object:
    head = account.ends[0].head
    error = head.get("error")
    return head["type"], error.get("code") if isinstance(error, dict) else None


def _distance(one: bytes, other: bytes) -> int:
    pixels = [np.asarray(Image.open(io.BytesIO(png)), np.int16) for png in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max()) if pixels[0].shape == pixels[1].shape else 255


_SMALL: Final[Fields] = {"width": 64, "height": 64, "steps": 3, "guidance_scale": 7.5, "seed": 7}

#: Jobs that the stand-in fails for, that the broker does not take, or that a wrong clock would end.
HARD_KINDS: Final[dict[str, Fields]] = {
    **{prompt: {**_SMALL, "prompt": prompt, "count": 2} for prompt in prompts.OF_THE_DEVICE},
    "larger than a message": {**_SMALL, "prompt": "cat", "width": 640, "height": 640},
    "with a deadline": {**_SMALL, "prompt": "cat", "deadline_seconds": 4 * 3600},
}
#: The job that ends whoever begins it, and how it ends itself.
POISONED: Final[Fields] = {**_SMALL, "prompt": prompts.POISON}
CRASHED: Final = Account(prompts.POISON, ends=[Frame({"type": "failed", "error": {"code": "crashed"}}, None)])


def kinds(picture: str) -> dict[str, Fields]:
    """Jobs of all sorts, small; ``picture`` is an init image in base64. One of them is refused, as it should be."""
    made: dict[str, Fields] = {
        "refused": {**_SMALL, "prompt": "cat", "steps": 0},
        "img2img": {**_SMALL, "prompt": "a blue house", "image": picture, "seed": 5, "strength": 0.8},
    }
    subjects = ("a red cat", "a green tree", "a yellow car", "a white boat")
    for number, (subject, steps) in enumerate((subject, steps) for subject in subjects for steps in (2, 3, 4)):
        count = (1, 1, 2, 1, 4)[number % 5]
        made[f"{subject}, {steps} steps, {count}"] = {
            **_SMALL, "prompt": subject, "steps": steps, "count": count, "seed": 100 + number,
            "sampler": ("DDIM", "Euler a", "PLMS")[number % 3],
        }  # fmt: skip
    return made
