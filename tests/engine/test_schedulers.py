"""Steps that are known beforehand are the steps that diffusers' schedulers make."""

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from stablediffusiond import samplers
from stablediffusiond.engine import schedulers

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

NOISE: dict[str, Any] = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "steps_offset": 1, "set_alpha_to_one": False,
}  # fmt: skip


def scheduler(name: str, **config: Any) -> Any:
    made = schedulers.make(samplers.find(name), DDIMScheduler(**{**NOISE, **config}))
    made.set_timesteps(10)
    return made


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["DDIM", "Euler", "Euler Karras"])
def test_factors_step_as_the_scheduler_does(name: str, prediction_type: str) -> None:
    runs = [scheduler(name, prediction_type=prediction_type) for _ in range(2)]
    for run in runs:
        if hasattr(run, "set_begin_index"):
            run.set_begin_index(3)
    timesteps = runs[0].timesteps[3:]
    factors = schedulers.affine(runs[0], timesteps, 0.0)
    assert factors is not None
    latents = torch.randn(1, 4, 8, 8) * runs[1].init_noise_sigma
    for step, timestep in enumerate(timesteps):
        scaled = runs[1].scale_model_input(latents, timestep)
        torch.testing.assert_close(latents * factors.into_unet[step], scaled)
        prediction = torch.randn(1, 4, 8, 8)
        expected = runs[1].step(prediction, timestep, latents, return_dict=False)[0]
        stepped = factors.of_latents[step] * latents + factors.of_prediction[step] * prediction
        torch.testing.assert_close(stepped, expected, rtol=1e-5, atol=1e-5)
        latents = expected


def test_others_have_none() -> None:
    for name in set(samplers.NAMES) - {"DDIM", "Euler"}:
        made = scheduler(name)
        assert schedulers.affine(made, made.timesteps, 0.0) is None, name
    noisy, clipped = scheduler("DDIM"), scheduler("DDIM", clip_sample=True)
    assert schedulers.affine(noisy, noisy.timesteps, 0.5) is None
    assert schedulers.affine(clipped, clipped.timesteps, 0.0) is None
