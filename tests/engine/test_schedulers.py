"""Samplers: each takes the noise schedule from the model and the rest from itself, whatever the model's config says."""

from typing import Any

import diffusers
import pytest
import torch

from stablediffusiond import samplers
from stablediffusiond.engine import schedulers
from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.errors import InvalidRequest

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

NOISE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
#: Configs as models have them, with parameters that are the business of their own scheduler.
OWN: dict[str, Any] = {
    "DDIM": diffusers.DDIMScheduler(**NOISE),
    "DDIM, trained with v": diffusers.DDIMScheduler(
        **NOISE, prediction_type="v_prediction", rescale_betas_zero_snr=True
    ),
    "PNDM": diffusers.PNDMScheduler(**NOISE, skip_prk_steps=True, steps_offset=1),
    "Euler, trailing": diffusers.EulerDiscreteScheduler(**NOISE, timestep_spacing="trailing"),
    "Euler, Karras": diffusers.EulerDiscreteScheduler(**NOISE, use_karras_sigmas=True),
    "DPM SDE": diffusers.DPMSolverMultistepScheduler(**NOISE, algorithm_type="sde-dpmsolver++", solver_order=3),
    "DEIS": diffusers.DEISMultistepScheduler(**NOISE, algorithm_type="deis", solver_type="logrho"),
    "UniPC": diffusers.UniPCMultistepScheduler(**NOISE, solver_type="bh1", final_sigmas_type="sigma_min"),
    "LCM": diffusers.LCMScheduler(**NOISE, original_inference_steps=50),
    "TCD": diffusers.TCDScheduler(**NOISE),
}
FLOW: dict[str, Any] = {
    "static": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "by UniPC": diffusers.UniPCMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
    ),
}


def run(scheduler: Any, steps: int, seed: int = 0) -> torch.Tensor:
    """Latents at the end of a run in which the model always predicts a tenth of what it sees."""
    generator = torch.Generator().manual_seed(seed)
    image = ImageScheduler(scheduler, generator)
    scheduler.set_timesteps(steps, device="cpu")
    latents = torch.randn(1, 4, 8, 8, generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep) if hasattr(scheduler, "scale_model_input") else latents
        latents = scheduler.step(0.1 * seen, timestep, latents, return_dict=False)[0]
    assert image.steps_done == len(scheduler.timesteps)
    return latents


@pytest.mark.parametrize("name", samplers.NAMES)
@pytest.mark.parametrize("own", OWN)
def test_every_sampler_runs_with_every_models_config(own: str, name: str) -> None:
    plain = diffusers.DDIMScheduler(**{key: value for key, value in OWN[own].config.items() if key in NOISE})
    for steps in (1, 2, 3, 8):
        try:
            latents = run(schedulers.make(samplers.find(name), OWN[own]), steps)
        except InvalidRequest as error:
            assert "steps" in str(error)
            assert steps < 3, error
            continue
        assert torch.isfinite(latents).all(), steps
    if (
        OWN[own].config.get("prediction_type", "epsilon") == "epsilon"
        and OWN[own].config.get("timestep_spacing") != "trailing"
        and not OWN[own].config.get("steps_offset")
    ):
        expected = run(schedulers.make(samplers.find(name), plain), 8)
        torch.testing.assert_close(latents, expected)  # nothing of the model's own sampler came along


@pytest.mark.parametrize("schedule", samplers.SCHEDULES)
@pytest.mark.parametrize("name", samplers.NAMES)
def test_every_schedule_is_drawn_or_refused(name: str, schedule: str) -> None:
    try:
        sampler = samplers.find(name, schedule)
    except InvalidRequest as error:
        assert schedule in str(error)
        return
    assert sampler is not None
    assert samplers.find(str(sampler)) == sampler
    scheduler = schedulers.make(sampler, OWN["DDIM"])
    if schedule != "Align Your Steps":
        assert torch.isfinite(run(scheduler, 8)).all()
        assert (scheduler.timesteps != _timesteps(name)).any() or schedule in {"Uniform", "DDIM Uniform"}


def _timesteps(name: str) -> torch.Tensor:
    plain = schedulers.make(samplers.find(name), OWN["DDIM"])
    plain.set_timesteps(8)
    timesteps: torch.Tensor = plain.timesteps
    return timesteps


@pytest.mark.parametrize("own", FLOW)
@pytest.mark.parametrize("name", samplers.NAMES)
def test_models_that_predict_a_flow_have_samplers_of_their_own(own: str, name: str) -> None:
    try:
        scheduler = schedulers.make(samplers.find(name), FLOW[own])
    except InvalidRequest as error:
        assert "predicts a flow" in str(error)
        return
    assert torch.isfinite(run(scheduler, 5)).all()
    assert schedulers.is_flow(scheduler)


@pytest.mark.parametrize(
    "name", ["Euler a", "DPM2 a", "DPM++ 2M SDE", "DPM++ 3M SDE", "DPM++ SDE", "SA-Solver", "DDPM", "LCM"]
)
def test_the_noise_of_a_step_is_the_images_own(name: str) -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(torch.seed() % 1000)  # what others do with the global generator changes nothing
        return run(schedulers.make(samplers.find(name), OWN["DDIM"]), 6, seed)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_latents_are_never_clipped() -> None:
    for own in (diffusers.DDIMScheduler(**NOISE), diffusers.DDIMScheduler(**NOISE, clip_sample=True)):
        for sampler in (None, samplers.find("DDIM"), samplers.find("DDPM"), samplers.find("LCM"), samplers.find("TCD")):
            assert schedulers.make(sampler, own).config.clip_sample is False
    assert schedulers.make(samplers.find("DDIM"), diffusers.DDIMScheduler(**NOISE)).config.set_alpha_to_one is False
    told: Any = diffusers.DDIMScheduler(**NOISE, set_alpha_to_one=True, clip_sample=False)
    assert schedulers.make(None, told).config.set_alpha_to_one is True  # its config may say so


@pytest.mark.parametrize(
    ("asked", "nearest"), [("DPM++ 2S a", "DPM++ 2S"), ("Restart", "Heun"), ("euler_cfg_pp", "Euler")]
)
def test_a_sampler_that_diffusers_does_not_have_names_the_nearest(asked: str, nearest: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{nearest.replace('+', '.')}' comes nearest"):
        samplers.find(asked)


@pytest.mark.parametrize("strength", [0.3, 0.5, 0.75])
@pytest.mark.parametrize("name", ["PLMS", "LMS", "DDIM", "Euler", "DPM++ 2M", "UniPC"])
def test_img2img_begins_at_the_noise_level_that_strength_says(name: str, strength: float) -> None:
    """With a model that sees exactly which noise was added, every sampler finds the picture again."""
    scheduler = schedulers.make(
        samplers.find(name), diffusers.DDIMScheduler(**NOISE, steps_offset=1, clip_sample=False)
    )
    ImageScheduler(scheduler, torch.Generator(), strength=strength)
    steps = 20
    scheduler.set_timesteps(steps, device="cpu")
    first = steps - int(steps * strength)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    timesteps = scheduler.timesteps[first * scheduler.order :]
    assert float(timesteps[0]) == pytest.approx(1000 * strength, abs=55)
    picture, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = scheduler.add_noise(picture, noise, timesteps[:1])
    for timestep in timesteps:
        scheduler.scale_model_input(latents, timestep)
        latents = scheduler.step(noise, timestep, latents, return_dict=False)[0]
    assert float((latents - picture).abs().max()) < 0.15


@pytest.mark.parametrize(("name", "most"), [("DDIM", 999), ("PLMS", 999), ("DDPM", 999), ("Euler", 1000), ("UniPC", 1000)])
def test_more_steps_than_the_model_has_noise_levels_are_refused_before_the_first(name: str, most: int) -> None:
    """diffusers would look up a level that is not there, or make steps between equal ones."""
    own = diffusers.DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    latents = torch.zeros(1, 4, 2, 2)

    def made(steps: int) -> Any:
        scheduler = ImageScheduler(schedulers.make(samplers.find(name), own), torch.Generator()).scheduler
        scheduler.set_timesteps(steps)
        return scheduler

    last = made(most)
    assert torch.isfinite(last.step(torch.ones_like(latents), last.timesteps[0], latents)[0]).all()
    with pytest.raises(InvalidRequest, match=f"{name} cannot make {most + 1} steps: this model has 1000 noise levels") as caught:
        made(most + 1)
    assert caught.value.field == "steps"
