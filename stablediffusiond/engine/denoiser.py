"""The device: Stable Diffusion 1.x and 2.x, driven step by step for many images at once.

The arithmetic is that of diffusers' ``StableDiffusionPipeline`` and ``StableDiffusionImg2ImgPipeline``; what differs
is who owns the loop. A pipeline runs one job from noise to picture; here each image carries what the pipeline would
keep for it (latents, scheduler, generator, embeddings), so that one UNet call can take images at different steps.
Parity with the pipelines, image by image, is a test.

A sample's noise comes from its own CPU generator, so its picture does not depend on its neighbours or on the device.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image
from torch import Tensor

from stablediffusiond.engine import models, schedulers
from stablediffusiond.engine.forward import Forward, Rows
from stablediffusiond.engine.job import Pixels, Sample, Shape, Task
from stablediffusiond.engine.memory import memory_of, most_pixels
from stablediffusiond.engine.previews import Previewer
from stablediffusiond.engine.prompts import Prompts
from stablediffusiond.errors import InvalidRequest, JobError, ModelError, OutOfMemory
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.samplers import Sampler
from stablediffusiond.settings import CompileMode, ModelSettings

#: Kinds of runs (sampler, steps, strength) whose factors are kept.
_RUNS_KEPT: Final = 256
#: Larger pictures are decoded in tiles.
_TILED_ABOVE_PIXELS: Final = 1536 * 1536


@dataclass(eq=False)
class _State:
    """What a pipeline would keep for one image."""

    latents: Tensor  #: (1, 4, H/8, W/8), the dtype of the model
    embeddings: Tensor  #: (rows, tokens, width): under guidance the negative prompt's first
    timestep_condition: Tensor | None  #: (1, time_cond_proj_dim), for UNets distilled to a guidance scale
    scheduler: schedulers.Scheduler
    timesteps: Tensor  #: (steps,), in host memory: a scheduler that looks one up must not wait for the device
    affine: schedulers.Affine | None  #: takes the scheduler's place where it can
    step_options: dict[str, Any]  #: generator and eta, where the scheduler takes them

    def into_unet(self, step: int) -> Tensor:
        """The latents as the UNet wants them before ``step``."""
        if self.affine is not None:
            return self.latents * self.affine.into_unet[step]
        scaled: Tensor = self.scheduler.scale_model_input(self.latents, self.timesteps[step])
        return scaled


class StableDiffusionDenoiser:
    """Drives ``pipeline``'s parts; the pipeline itself is never called."""

    def __init__(self, pipeline: models.Pipeline, name: str, compile_mode: CompileMode = "off") -> None:
        self._parts = pipeline
        self._name = name
        self._device: torch.device = pipeline.device
        self._dtype: torch.dtype = pipeline.unet.dtype
        self._prompts = Prompts(pipeline)
        self._forward = Forward(pipeline, compile_mode)
        self._affine: dict[tuple[Sampler | None, int, int, float], schedulers.Affine | None] = {}
        self._previewer = Previewer.for_model(pipeline.vae.config.latent_channels, self._encode_pictures)

    @property
    def device(self) -> str:
        name = str(self._device)
        return f"{name} ({torch.cuda.get_device_name(self._device)})" if self._device.type == "cuda" else name

    @property
    def dtype(self) -> str:
        return str(self._dtype).removeprefix("torch.")

    def memory_bytes(self) -> int | None:
        """What is held on the device; None where nobody keeps an account of it."""
        memory = memory_of(self._device)
        return None if memory is None else memory.held_bytes()

    # Beginning

    def shape_of(self, request: Request) -> Shape:
        """The model's own size where the request names none."""
        height, width = models.own_latent_size(self._parts)
        scale: int = self._parts.vae_scale_factor
        return Shape(request.width or width * scale, request.height or height * scale)

    def rows_of(self, request: Request) -> int:
        """Rows of one image: two under guidance."""
        return 2 if self._guided(request) else 1

    @torch.inference_mode()
    def begin(self, sample: Sample) -> None:
        """Bring an image before its first step.

        Raises:
            InvalidRequest: a sampler that cannot make so many steps.
            OutOfMemory, ModelError: the device says no.
        """
        request = sample.task.request
        with _as_job_errors():
            scheduler = schedulers.make(request.chosen_sampler(), self._parts.scheduler)
            generator = torch.Generator("cpu").manual_seed(request.image_seed(sample.index))
            _set_timesteps(scheduler, request.steps)
            if sample.task.init_image is None:
                timesteps = scheduler.timesteps
                latents = self._noise(generator, sample.shape) * scheduler.init_noise_sigma
            else:
                timesteps = _shorten(scheduler, request)
                latents = self._noised_image(sample.task.init_image, timesteps[:1], scheduler, generator)
            embeddings = self._prompts.encode(request.prompt, request.negative_prompt if sample.rows == 2 else None)
            sample.state = _State(
                latents, embeddings, self._condition(request), scheduler, timesteps,
                self._find_affine(request, scheduler, timesteps), _step_options(scheduler, generator, request.eta),
            )  # fmt: skip
            sample.steps = len(timesteps)

    def _find_affine(
        self, request: Request, scheduler: schedulers.Scheduler, timesteps: Tensor
    ) -> schedulers.Affine | None:
        """The factors of this run; runs alike have the same, and there are fewer kinds than requests."""
        key = (request.chosen_sampler(), request.steps, len(timesteps), request.eta)
        if key not in self._affine:
            if len(self._affine) >= _RUNS_KEPT:
                self._affine.clear()
            self._affine[key] = schedulers.affine(scheduler, timesteps, request.eta)
        return self._affine[key]

    def _noise(self, generator: torch.Generator, shape: Shape) -> Tensor:
        width, height = (pixels // self._parts.vae_scale_factor for pixels in (shape.width, shape.height))
        latents = (1, self._parts.unet.config.in_channels, height, width)
        noise: Tensor = randn_tensor(latents, generator=generator, device=self._device, dtype=self._dtype)
        return noise

    def _noised_image(
        self, picture: Image, timestep: Tensor, scheduler: schedulers.Scheduler, generator: torch.Generator
    ) -> Tensor:
        """The init image as latents, with the noise of ``timestep``."""
        latents = self._encode_pictures(self._parts.image_processor.preprocess(picture), generator)
        noise = randn_tensor(latents.shape, generator=generator, device=self._device, dtype=self._dtype)
        noised: Tensor = scheduler.add_noise(latents, noise, timestep)
        return noised

    @torch.inference_mode()
    def _encode_pictures(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(n, 3, H, W) from -1 to 1 to latents as the UNet sees them."""
        encoded = retrieve_latents(self._parts.vae.encode(pixels.to(self._device, self._dtype)), generator=generator)
        latents: Tensor = self._parts.vae.config.scaling_factor * encoded
        return latents

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
    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        """One UNet call over all rows of ``samples``, which are of one shape, then each one's scheduler step.

        Where there are more than ``rows_at_once`` rows it takes more calls. Returns what went wrong with single
        samples, by their place; the others have made their step.

        Raises:
            OutOfMemory, ModelError: the UNet call failed, and no sample has made a step.
        """
        guided_first = sorted(samples, key=lambda sample: -sample.rows)
        with _as_job_errors():
            predictions = _guide(self._forward(self._rows(guided_first), rows_at_once), guided_first)
            by_factors = [place for place, sample in enumerate(guided_first) if _state(sample).affine is not None]
            stepped = self._step_by_factors(guided_first, predictions, by_factors)
        for place, latents in stepped.items():
            _state(guided_first[place]).latents = latents
        failures: dict[int, JobError] = {}
        for place, sample in enumerate(guided_first):
            if place in stepped:
                continue
            try:
                with _as_job_errors():
                    _step_by_scheduler(_state(sample), sample.step, predictions[place : place + 1])
            except JobError as error:
                failures[samples.index(sample)] = error
        return failures

    def _rows(self, samples: Sequence[Sample]) -> Rows:
        """What goes into the UNet call: the first row of every image, then the second of those that have one.

        Under guidance the first is without the prompt. Images that have two come first.
        """
        states = [_state(sample) for sample in samples]
        guided = sum(sample.rows == 2 for sample in samples)
        once = range(len(samples))
        rows = [*((place, 0) for place in once), *((place, 1) for place in once[:guided])]
        inputs = [state.into_unet(sample.step) for state, sample in zip(states, samples, strict=True)]
        timesteps = torch.stack([states[place].timesteps[samples[place].step].float() for place, _ in rows])
        conditions = [state.timestep_condition for state in states if state.timestep_condition is not None]
        return Rows(
            torch.cat([inputs[place] for place, _ in rows]).to(self._dtype),
            timesteps.to(self._device, non_blocking=True),
            torch.cat([states[place].embeddings[row : row + 1] for place, row in rows]),
            torch.cat(conditions) if conditions else None,
        )

    def _step_by_factors(
        self, samples: Sequence[Sample], predictions: Tensor, places: Sequence[int]
    ) -> dict[int, Tensor]:
        """The latents, after a step, of the images at ``places``: all in one operation."""
        if not places:
            return {}
        states = [_state(samples[place]) for place in places]
        factors = [
            (state.affine.of_latents[samples[place].step], state.affine.of_prediction[samples[place].step])
            for state, place in zip(states, places, strict=True)
            if state.affine is not None
        ]
        of_latents, of_predictions = _column(factors, self._device)
        latents = torch.cat([state.latents for state in states]).float()
        predicted = predictions if len(places) == len(samples) else torch.cat([predictions[p : p + 1] for p in places])
        stepped = (of_latents * latents + of_predictions * predicted.float()).to(self._dtype)
        return {place: stepped[row : row + 1] for row, place in enumerate(places)}

    def time_rows(self, rows: int) -> float:
        """Seconds of a UNet call with so many rows of the model's own size.

        Raises:
            OutOfMemory: they do not fit.
        """
        with torch.inference_mode(), _as_job_errors():
            return self._forward.seconds(rows)

    def most_pixels(self) -> int | None:
        """The pixels of the largest picture that the device has memory for; None where that cannot be told."""
        if (memory := memory_of(self._device)) is None:
            return None
        sample = self.one_step()
        return most_pixels(memory, sample.shape.pixels, lambda: self.draw(sample))

    def one_step(self) -> Sample:
        """The least that can be drawn in the model's own size."""
        request = Request(prompt="", steps=1)
        return Sample(Task(0, request), 0, self.shape_of(request), self.rows_of(request))

    def draw(self, sample: Sample) -> Pixels:
        """An image from its beginning to its end, with nothing beside it."""
        self.begin(sample)
        while not sample.finished:
            self.step([sample], sample.rows)
            sample.step += 1
        return self.finish(sample)

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
            try:
                scaled = self._decode(latents, tiled=sample.shape.pixels > _TILED_ABOVE_PIXELS)
            except torch.OutOfMemoryError:
                self.free_memory()
                scaled = self._decode(latents, tiled=True)
            finite = torch.isfinite(latents).all()
            pixels: Pixels = scaled.round().to(torch.uint8).cpu().numpy()
            if not finite:
                raise ModelError('the latents are not numbers any more; try another sampler, or dtype = "float32"')
        return pixels

    def _decode(self, latents: Tensor, *, tiled: bool) -> Tensor:
        """The picture, (H, W, 3) from 0 to 255; in overlapping tiles it takes less memory, and its edges may differ."""
        vae = self._parts.vae
        vae.use_tiling = tiled
        image = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
        scaled: Tensor = (image[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255
        return scaled

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
            width=sample.shape.width,
            height=sample.shape.height,
            steps=request.steps,
            guidance_scale=request.guidance_scale,
            sampler=schedulers.name_of(state.scheduler),
            strength=request.strength if request.type == "img2img" else None,
            eta=request.eta,
            model=self._name,
        )

    @torch.inference_mode()
    def preview(self, sample: Sample) -> Pixels:
        """What the image looks like so far, one pixel for each latent: (H/8, W/8, 3) uint8, in host memory."""
        return self._previewer.show(_state(sample).into_unet(min(sample.step, sample.steps - 1)))

    def free_memory(self) -> None:
        """Give cached device memory back, after a failure."""
        self._prompts.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def load(model: ModelSettings, compile_mode: CompileMode = "off") -> StableDiffusionDenoiser:
    """The denoiser for the model that the settings name, warm: its first job is no slower than its second.

    Raises:
        ModelUnavailable: the model cannot be loaded.
    """
    denoiser = StableDiffusionDenoiser(models.load_pipeline(model), model.name, compile_mode)
    denoiser.draw(denoiser.one_step())
    return denoiser


def _state(sample: Sample) -> _State:
    if not isinstance(sample.state, _State):
        raise TypeError(f"a sample of another denoiser: {type(sample.state)}")
    return sample.state


def _set_timesteps(scheduler: schedulers.Scheduler, steps: int) -> None:
    try:
        scheduler.set_timesteps(steps, device="cpu")
    except (ValueError, IndexError, AssertionError) as error:
        name = schedulers.name_of(scheduler)
        raise InvalidRequest(f"{name} cannot make {steps} steps: {error}", field="steps") from None


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


def _guide(rows: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Of what the UNet said of all rows, as `_rows` put them, the prediction for each image: (n, 4, H/8, W/8)."""
    first, second = rows[: len(samples)], rows[len(samples) :]
    if not len(second):
        return first
    guided = len(second)
    scales = [(sample.task.request.guidance_scale,) for sample in samples[:guided]]
    [scale] = _column(scales, rows.device, rows.dtype)
    unconditional = first[:guided]
    return torch.cat([unconditional + scale * (second - unconditional), first[guided:]])


def _column(
    numbers: Sequence[tuple[float, ...]], device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """Numbers by image, as factors (n, 1, 1, 1) of latents; brought to the device in one go."""
    table = torch.tensor(numbers, dtype=dtype).to(device, non_blocking=True)
    return tuple(column.reshape(-1, 1, 1, 1) for column in table.unbind(dim=1))


def _step_by_scheduler(state: _State, step: int, prediction: Tensor) -> None:
    """One step of one image, (1, 4, H/8, W/8), by its own scheduler."""
    timestep = state.timesteps[step]
    options = state.step_options
    state.latents = state.scheduler.step(prediction, timestep, state.latents, **options, return_dict=False)[0]


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
