"""The device: Stable Diffusion 1.x and 2.x, driven step by step for many images at once.

The arithmetic is that of diffusers' ``StableDiffusionPipeline`` and ``StableDiffusionImg2ImgPipeline``; what differs
is who owns the loop. A pipeline runs one job from noise to picture; here each image carries what the pipeline would
keep for it (latents, scheduler, generator, embeddings), so that one UNet call can take images at different steps.
Parity with the pipelines, image by image, is a test.

A sample's noise comes from its own CPU generator, so its picture does not depend on its neighbours or on the device.
"""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image
from torch import Tensor

from stablediffusiond.engine import models, schedulers
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.pictures import open_init_image
from stablediffusiond.errors import InvalidRequest, JobError, ModelError, OutOfMemory
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import ModelSettings

_REMEMBERED_PROMPTS: Final = 32


@dataclass(eq=False)
class _State:
    """What a pipeline would keep for one image."""

    latents: Tensor  #: (1, 4, H/8, W/8), the dtype of the model
    embeddings: Tensor  #: (rows, tokens, width): under guidance the negative prompt's first
    timestep_condition: Tensor | None  #: (1, time_cond_proj_dim), for UNets distilled to a guidance scale
    scheduler: schedulers.Scheduler
    timesteps: Tensor  #: (steps,)
    step_options: dict[str, Any]  #: generator and eta, where the scheduler takes them
    size: tuple[int, int]  #: width, height in pixels


class StableDiffusionDenoiser:
    """Drives ``pipeline``'s parts; the pipeline itself is never called."""

    def __init__(self, pipeline: models.Pipeline, name: str) -> None:
        self._parts = pipeline
        self._name = name
        self._device: torch.device = pipeline.device
        self._dtype: torch.dtype = pipeline.unet.dtype
        self._prompts: OrderedDict[tuple[str, str, bool], Tensor] = OrderedDict()

    @property
    def device_name(self) -> str:
        return f"{self._device}, {str(self._dtype).removeprefix('torch.')}"

    # Beginning

    @torch.inference_mode()
    def begin(self, task: Task, index: int) -> Sample:
        """Image ``index`` of ``task``, before its first step.

        Raises:
            InvalidRequest: a sampler that cannot make so many steps, or an init image that cannot be read.
            OutOfMemory, ModelError: the device says no.
        """
        request = task.request
        with _as_job_errors():
            size = self.size_of(request)
            scheduler = schedulers.make(request.chosen_sampler(), self._parts.scheduler)
            generator = torch.Generator("cpu").manual_seed(request.image_seed(index))
            self._set_timesteps(scheduler, request.steps)
            if request.image is None:
                timesteps = scheduler.timesteps
                latents = self._noise(generator, size) * scheduler.init_noise_sigma
            else:
                timesteps = _shorten(scheduler, request)
                latents = self._noised_image(open_init_image(request.image, *size), timesteps[:1], scheduler, generator)
            embeddings = self._encode(request)
            state = _State(
                latents, embeddings, self._condition(request), scheduler, timesteps,
                _step_options(scheduler, generator, request.eta), size,
            )  # fmt: skip
        shape = (tuple(latents.shape), tuple(embeddings.shape[1:]))
        return Sample(task, index, state, shape, rows=len(embeddings), steps=len(timesteps))

    def size_of(self, request: Request) -> tuple[int, int]:
        """Width and height in pixels; the model's own where the request leaves them out."""
        own = self._parts.unet.config.sample_size
        own_height, own_width = (own, own) if isinstance(own, int) else own
        scale: int = self._parts.vae_scale_factor
        return request.width or own_width * scale, request.height or own_height * scale

    def _set_timesteps(self, scheduler: schedulers.Scheduler, steps: int) -> None:
        try:
            scheduler.set_timesteps(steps, device=self._device)
        except (ValueError, IndexError, AssertionError) as error:
            name = schedulers.name_of(scheduler)
            raise InvalidRequest(f"{name} cannot make {steps} steps: {error}", field="steps") from None

    def _noise(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        width, height = (pixels // self._parts.vae_scale_factor for pixels in size)
        shape = (1, self._parts.unet.config.in_channels, height, width)
        noise: Tensor = randn_tensor(shape, generator=generator, device=self._device, dtype=self._dtype)
        return noise

    def _noised_image(
        self, picture: Image, timestep: Tensor, scheduler: schedulers.Scheduler, generator: torch.Generator
    ) -> Tensor:
        """The init image as latents, with the noise of ``timestep``."""
        pixels = self._parts.image_processor.preprocess(picture).to(self._device, self._dtype)  # (1, 3, H, W), -1 to 1
        encoded = retrieve_latents(self._parts.vae.encode(pixels), generator=generator)
        latents: Tensor = self._parts.vae.config.scaling_factor * encoded
        noise = randn_tensor(latents.shape, generator=generator, device=self._device, dtype=self._dtype)
        noised: Tensor = scheduler.add_noise(latents, noise, timestep)
        return noised

    def _encode(self, request: Request) -> Tensor:
        """The prompt as (1, tokens, width); under guidance (2, tokens, width), the negative prompt first."""
        guided = self._guided(request)
        key = (request.prompt, request.negative_prompt, guided)
        if key not in self._prompts:
            prompt, negative = self._parts.encode_prompt(
                request.prompt, self._device, 1, guided, request.negative_prompt if guided else None
            )
            self._prompts[key] = torch.cat([negative, prompt]) if guided else prompt
            if len(self._prompts) > _REMEMBERED_PROMPTS:
                self._prompts.popitem(last=False)
        self._prompts.move_to_end(key)
        return self._prompts[key]

    def _guided(self, request: Request) -> bool:
        return request.guided and self._parts.unet.config.time_cond_proj_dim is None

    def _condition(self, request: Request) -> Tensor | None:
        width = self._parts.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scale = torch.tensor([request.guidance_scale - 1])
        condition: Tensor = self._parts.get_guidance_scale_embedding(scale, embedding_dim=width)
        return condition.to(self._device, self._dtype)

    # Stepping

    @torch.inference_mode()
    def step(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        """One UNet call over all rows of ``samples``, which are of one shape, then each one's scheduler step.

        Returns what went wrong with single samples, by their place; the others have made their step.

        Raises:
            OutOfMemory, ModelError: the UNet call failed, and no sample has made a step.
        """
        states = [_state(sample) for sample in samples]
        with _as_job_errors():
            predictions = self._predict(states, [sample.step for sample in samples])
        failures: dict[int, JobError] = {}
        first_row = 0
        for place, (sample, state) in enumerate(zip(samples, states, strict=True)):
            rows = predictions[first_row : first_row + sample.rows]
            first_row += sample.rows
            try:
                with _as_job_errors():
                    _advance(state, state.timesteps[sample.step], rows, sample.task.request.guidance_scale)
            except JobError as error:
                failures[place] = error
        return failures

    def _predict(self, states: Sequence[_State], steps: Sequence[int]) -> Tensor:
        """What the UNet says of every row: (rows, 4, H/8, W/8)."""
        inputs: list[Tensor] = []
        timesteps: list[Tensor] = []
        conditions: list[Tensor] = []
        for state, step in zip(states, steps, strict=True):
            timestep = state.timesteps[step]
            scaled = state.scheduler.scale_model_input(state.latents, timestep)
            rows = len(state.embeddings)
            inputs += [scaled] * rows
            timesteps += [timestep.to(torch.float32)] * rows
            conditions += [state.timestep_condition] * rows if state.timestep_condition is not None else []
        predicted: Tensor = self._parts.unet(
            torch.cat(inputs).to(self._dtype),
            torch.stack(timesteps),
            encoder_hidden_states=torch.cat([state.embeddings for state in states]),
            timestep_cond=torch.cat(conditions) if conditions else None,
            return_dict=False,
        )[0]
        return predicted

    # Finishing

    @torch.inference_mode()
    def finish(self, sample: Sample) -> Pixels:
        """The picture, (H, W, 3) uint8, in host memory.

        Raises:
            ModelError: the latents are not numbers.
            OutOfMemory: there is no room to decode them.
        """
        latents = _state(sample).latents
        with _as_job_errors():
            image = self._parts.vae.decode(latents / self._parts.vae.config.scaling_factor, return_dict=False)[0]
            scaled = (image[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255  # (H, W, 3)
            finite = torch.isfinite(latents).all()
            pixels: Pixels = scaled.round().to(torch.uint8).cpu().numpy()
            if not finite:
                raise ModelError('the latents are not numbers any more; try another sampler, or dtype = "float32"')
        return pixels

    def facts(self, sample: Sample) -> ImageFacts:
        """What was really used, where the request left the choice to the model."""
        request, state = sample.task.request, _state(sample)
        return ImageFacts(
            id=request.id,
            index=sample.index,
            count=request.count,
            type=request.type,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.image_seed(sample.index),
            width=state.size[0],
            height=state.size[1],
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            sampler=schedulers.name_of(state.scheduler),
            strength=request.strength if request.type == "img2img" else None,
            eta=request.eta,
            model=self._name,
        )

    def free_memory(self) -> None:
        """Give cached device memory back, after a failure."""
        self._prompts.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def load(settings: ModelSettings) -> StableDiffusionDenoiser:
    """The denoiser for the model that ``settings`` name, warm: its first job is no slower than its second.

    Raises:
        ModelUnavailable: the model cannot be loaded.
    """
    denoiser = StableDiffusionDenoiser(models.load_pipeline(settings), settings.name)
    sample = denoiser.begin(Task(0, Request(prompt="", steps=1)), 0)
    denoiser.step([sample])
    denoiser.finish(sample)
    return denoiser


def _state(sample: Sample) -> _State:
    if not isinstance(sample.state, _State):
        raise TypeError(f"a sample of another denoiser: {type(sample.state)}")
    return sample.state


def _shorten(scheduler: schedulers.Scheduler, request: Request) -> Tensor:
    """The timesteps that img2img goes through: the last ``strength`` of them, and at least one."""
    first = request.steps - min(max(int(request.steps * request.strength), 1), request.steps)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * scheduler.order)
    timesteps: Tensor = scheduler.timesteps[first * scheduler.order :]
    return timesteps


def _step_options(scheduler: schedulers.Scheduler, generator: torch.Generator, eta: float) -> dict[str, Any]:
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in {"generator": generator, "eta": eta}.items() if name in taken}


def _advance(state: _State, timestep: Tensor, rows: Tensor, guidance_scale: float) -> None:
    """One scheduler step of one image; ``rows`` is what the UNet said of it, (1 or 2, 4, H/8, W/8)."""
    noise = rows
    if len(rows) == 2:
        unguided, guided = rows.chunk(2)
        noise = unguided + guidance_scale * (guided - unguided)
    state.latents = state.scheduler.step(noise, timestep, state.latents, **state.step_options, return_dict=False)[0]


class _as_job_errors:  # noqa: N801 (read as a phrase: with _as_job_errors())
    """Turns whatever torch and diffusers raise into an error of the job at hand."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, JobError) or not isinstance(error, Exception):
            return
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said:
            raise OutOfMemory(f"the device has no room for this: {said}") from error
        raise ModelError(f"{type(error).__name__}: {said}") from error
