"""One image between its beginning and its end: a suspended pipeline and its scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass

from stablediffusiond.engine.coalescing import PipelineRun, alike, answer
from stablediffusiond.engine.decoding import decode
from stablediffusiond.engine.device_errors import raise_if_broken
from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.job import Sample
from stablediffusiond.engine.networks import is_autoencoder
from stablediffusiond.engine.parts import Denoising, Parts
from stablediffusiond.messages.loras import as_tags
from stablediffusiond.messages.replies import ImageFacts


@dataclass(eq=False)
class ImageRun:
    """What the denoiser keeps in ``Sample.state``."""

    run: PipelineRun
    parts: Parts
    unseen: Sequence[str] = ()  #: the ends of its prompts that no text encoder has seen

    @property
    def scheduler(self) -> ImageScheduler:
        """That whose latents are the newest."""
        if (shown := self.parts.shown) is None:
            raise TypeError("an upscale has no scheduler")
        return shown.scheduler

    @property
    def is_stepping(self) -> bool:
        """Whether its next call is a step."""
        return self.run.call is not None and self.run.call.module is self.parts.current.network

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing but its picture to be decoded, or not even that."""
        call = self.run.call
        return call is None or (self.parts.is_last and is_autoencoder(call.module))


def state_of(sample: Sample) -> ImageRun:
    """What the denoiser keeps of an image that has begun."""
    if not isinstance(sample.state, ImageRun):
        raise TypeError(f"a sample of another denoiser: {type(sample.state)}")
    return sample.state


def note_progress(sample: Sample) -> None:
    """Have ``sample`` tell how far its run is, and what its next call is like."""
    state = state_of(sample)
    call = state.run.call
    sample.step, sample.steps, sample.unseen = state.parts.steps_done, state.parts.steps, state.unseen
    sample.finished = state.is_finished
    if call is not None and not sample.finished:
        part = state.parts.current
        # Tiles are sized so that one takes as long as a step: two pictures' tiles are no step any more.
        alone = () if isinstance(part, Denoising) else (id(state),)
        sample.kind, sample.rows = part.kind.with_structure((id(call.function), call.key, *alone)), call.rows
    elif call is not None:
        sample.decoding = id(call.function), call.key


def facts_of(sample: Sample, model: str) -> ImageFacts:
    """What was really used, where the request left the choice to ``model``."""
    request, state = sample.task.request, state_of(sample)
    upscale, hires = request.type == "upscale", request.hires
    first = sample.kind if hires is None else state.parts.parts[0].kind
    return ImageFacts(
        id=request.id,
        index=sample.index,
        count=request.count,
        type=request.type,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.image_seed(sample.index),
        width=(upscale and request.width) or sample.kind.width,
        height=(upscale and request.height) or sample.kind.height,
        steps=0 if upscale else request.steps,
        guidance_scale=0 if upscale else request.guidance_scale,
        sampler="" if upscale else state.scheduler.name,
        strength=request.strength if request.type in {"img2img", "inpaint"} else None,
        eta=request.eta,
        clip_skip=request.clip_skip,
        subseed=request.image_subseed(sample.index) if request.subseed_strength else None,
        subseed_strength=request.subseed_strength or None,
        tiling=request.tiling or None,
        guidance_rescale=request.guidance_rescale or None,
        first_width=None if hires is None else first.width,
        first_height=None if hires is None else first.height,
        hires_steps=None if hires is None else hires.steps or request.steps,
        hires_strength=None if hires is None else hires.strength,
        upscaler=request.upscaler if hires is None else hires.upscaler,
        loras=as_tags(request.loras) or None,
        vae=request.vae,
        model=model,
    )


def make_calls_between_steps(images: Sequence[ImageRun]) -> None:
    """Make the calls of ``images``, those that are alike together, until the next of each is a step, or its last.

    So prompts that come at the same moment are encoded together, and pictures with the same ControlNet ask it together.
    A run whose call fails, also alone, is told so where it is suspended.
    """
    while waiting := [image.run for image in images if not (image.is_stepping or image.is_finished)]:
        for group in alike(waiting):
            if group[0].call is not None and is_autoencoder(group[0].call.module):
                for run, error in decode(group).items():
                    run.fail(error)
            else:
                _answer_or_fail(group)


def _answer_or_fail(group: Sequence[PipelineRun]) -> None:
    try:
        answer(group, sum(run.call.rows for run in group if run.call is not None))
    except Exception as error:  # noqa: BLE001 (it is raised again in the picture's own pipeline, where it belongs)
        raise_if_broken(error)
        if len(group) == 1:
            group[0].fail(error)
        else:
            for run in group:
                _answer_or_fail([run])
