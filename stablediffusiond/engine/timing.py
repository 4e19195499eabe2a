"""How long a call of a network takes on its device."""

import time
from typing import Final

import torch

from stablediffusiond.engine.call import Call, make_together

#: Calls timed; the fastest tells what the device can do, the others what else the machine was doing.
_TIMED_CALLS: Final = 5
#: After so long there are no more of them: a service shall start.
_ENOUGH_SECONDS: Final = 0.3


def seconds_of(call: Call, device: torch.device, most_calls: int = _TIMED_CALLS) -> float:
    """Seconds of ``call`` on ``device``, once it is no longer the first of its shape there."""
    if device.type == "cuda":
        _timed(call, device)  # loads kernels, and chooses how to convolve
    taken = [_timed(call, device)]
    while len(taken) < most_calls and sum(taken) < _ENOUGH_SECONDS:
        taken.append(_timed(call, device))
    return min(taken)


def _timed(call: Call, device: torch.device) -> float:
    _wait_for(device)
    began = time.perf_counter()
    make_together([call], call.rows)
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
