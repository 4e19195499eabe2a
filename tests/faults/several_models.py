"""Settings of request daemons with several models, and jobs that ask for them."""

from collections.abc import Sequence
from typing import Final

from tests.faults.job_kinds import Fields
from tests.faults.model_failpoints import FAKE_BYTES

_LOAD_SECONDS: Final = 0.3
_ROOM_FOR: Final = 2.5


def names(models: int) -> list[str]:
    """Of those beside the default one."""
    return [f"m{number}" for number in range(1, models)]


def settings(models: Sequence[str]) -> dict[str, str]:
    """Those of the environment; two models have room, and the others wait."""
    if not models:
        return {}
    return {
        **{f"STABLEDIFFUSIOND_MODELS__{model.upper()}__NAME": "doodle" for model in models},
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": str(int(_ROOM_FOR * FAKE_BYTES)),
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": "1",
        "FAKE_LOAD_SECONDS": str(_LOAD_SECONDS),
    }


def share_out(kinds: dict[str, Fields], models: Sequence[str]) -> None:
    """Have each kind of job ask for one of ``models``, or for none."""
    choices = [None, *models]
    for number, fields in enumerate(kinds.values()):
        if (model := choices[number % len(choices)]) is not None:
            fields["model"] = model
