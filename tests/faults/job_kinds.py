"""The kinds of jobs that are submitted among faults, and how those end that no daemon survives."""

from typing import Final

from stablediffusiond.frames import Frame
from tests.faults import failing_prompts
from tests.faults.job_records import JobRecord

Fields = dict[str, object]

_SMALL: Final[Fields] = {"width": 64, "height": 64, "steps": 3, "guidance_scale": 7.5, "seed": 7}

#: Jobs that the fake denoiser fails for, that the broker does not take, or that a wrong clock would end.
HARD_KINDS: Final[dict[str, Fields]] = {
    **{prompt: {**_SMALL, "prompt": prompt, "count": 2} for prompt in failing_prompts.OF_THE_DEVICE},
    "larger than a message": {**_SMALL, "prompt": "cat", "width": 640, "height": 640},
    "with a deadline": {**_SMALL, "prompt": "cat", "deadline_seconds": 4 * 3600},
}
#: The job that ends every daemon which begins it, and how it ends itself.
POISON_MESSAGE: Final[Fields] = {**_SMALL, "prompt": failing_prompts.POISON}
CRASHED: Final = JobRecord(failing_prompts.POISON, ends=[Frame({"type": "failed", "error": {"code": "crashed"}}, None)])


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
