"""The last call of a picture: its latents to pixels, checked for numbers; several pictures in one call."""

import functools
import logging
import operator
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from stablediffusiond.engine.call import Call, make_together
from stablediffusiond.engine.coalescing import PipelineRun, alike
from stablediffusiond.engine.device_errors import job_error, raise_if_broken
from stablediffusiond.engine.job import Pixels
from stablediffusiond.engine.networks import Pipeline, modules_of
from stablediffusiond.engine.rows import Answer, tensors_of
from stablediffusiond.errors import JobError, ModelError

log = logging.getLogger(__name__)

_NO_NUMBERS: Final = 'the latents are not numbers any more; try another sampler, or dtype = "float32"'


def pictures_of(runs: Sequence[PipelineRun]) -> list[Pixels | JobError]:
    """Have ``runs``, which have only to be decoded, end: of each the picture, or what went wrong with it.

    Raises:
        DeviceBroken: it is the device's end.
    """
    errors: dict[PipelineRun, JobError] = {}
    while waiting := [run for run in runs if run.call is not None and run not in errors]:
        for group in alike(waiting):
            errors |= decode(group)
    return [errors[run] if run in errors else _picture(run) for run in runs]


def _picture(run: PipelineRun) -> Pixels | JobError:
    """What ``run`` has made, (H, W, 3) uint8 in host memory."""
    if run.failure is not None:
        return job_error(run.failure)
    if isinstance(run.result, np.ndarray):
        return run.result
    image: Tensor = run.result[0]  # (3, H, W) from 0 to 1
    pixels: Pixels = (image.permute(1, 2, 0).float() * 255).round().to(torch.uint8).cpu().numpy()
    return pixels


def decode(group: Sequence[PipelineRun]) -> dict[PipelineRun, JobError]:
    """Make the calls of ``group``, which are alike, together, and resume each run; the errors of those that failed.

    Raises:
        DeviceBroken: it is the device's end.
    """
    calls = {run: run.call for run in group if run.call is not None}
    errors: dict[PipelineRun, JobError] = {
        run: ModelError(_NO_NUMBERS) for run, call in calls.items() if not _has_numbers(call)
    }
    decoded = {run: call for run, call in calls.items() if run not in errors}
    if not decoded:
        return errors
    try:
        answers = make_together(list(decoded.values()), sum(call.rows for call in decoded.values()))
    except Exception as error:  # noqa: BLE001 (whatever torch raises is some picture's, or the device's)
        if len(decoded) == 1:
            return errors | dict.fromkeys(decoded, job_error(error))
        raise_if_broken(error)
        return functools.reduce(operator.or_, (decode([run]) for run in decoded), errors)
    for (run, call), answer in zip(decoded.items(), answers, strict=True):
        try:
            run.resume(answer if _is_finite(answer) else _in_float32(call))
        except Exception as error:  # noqa: BLE001 (as above)
            errors[run] = job_error(error)
    return errors


def _has_numbers(call: Call) -> bool:
    latents = call.tensor("z", "x", "h", "latents")
    return latents is None or bool(torch.isfinite(latents).all())


def _in_float32(call: Call) -> Answer:
    """Once more, and from now on, in float32: in half precision this autoencoder overflows."""
    if call.module.dtype != torch.float32:
        log.warning("the VAE overflows in %s, and decodes in float32 from now on", call.module.dtype)
        call.module.to(torch.float32)
        [answer] = make_together([call], call.rows)
        if _is_finite(answer):
            return answer
    raise ModelError("what the VAE decodes is not numbers; the model may be broken")


def decode_as_asked(pipeline: Pipeline) -> None:
    """Keep an autoencoder in float32 that says that it overflows in float16, as that of Stable Diffusion XL.

    Its pipeline would turn it to float32 for each picture and back, while others are suspended in it.
    """
    for module in modules_of(pipeline):
        decode_in_float32_if_asked(module)


def decode_in_float32_if_asked(module: torch.nn.Module) -> None:
    """As above, for one of them."""
    if module.dtype == torch.float16 and _asks_for_float32(module):
        module.to(torch.float32)


def _asks_for_float32(module: torch.nn.Module) -> bool:
    config: Any = getattr(module, "config", None)
    if not getattr(config, "force_upcast", False):
        return False
    return "force_upcast" not in config.get("_use_default_values", ())  # which every autoencoder of diffusers has


def _is_finite(answer: Answer) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(answer))
