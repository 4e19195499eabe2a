"""What a pipeline of diffusers draws by itself, to compare with."""

import functools
from typing import Any
from unittest.mock import patch

import torch


def last_step_and_picture(pipeline: Any, **arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents of the last step of a call, and its picture, (3, height, width) from 0 to 1."""
    pipeline.set_progress_bar_config(disable=True)
    steps: list[torch.Tensor] = []
    step = pipeline.scheduler.step

    def recorded(*args: Any, **kwargs: Any) -> Any:
        made = step(*args, **kwargs)
        steps.append(made[0])
        return made

    with patch.object(pipeline.scheduler, "step", functools.wraps(step)(recorded)):
        image: torch.Tensor = pipeline(output_type="pt", **arguments).images[0]
    return steps[-1], image
