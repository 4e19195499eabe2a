"""One image between its beginning and its end: a suspended pipeline and its scheduler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stablediffusiond.engine.coalescing import PipelineRun, alike, answer
from stablediffusiond.engine.device_errors import raise_if_broken
from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.job import Sample
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.messages.loras import as_tags
from stablediffusiond.messages.replies import ImageFacts


@dataclass(eq=False)
class ImageRun:
    """What the denoiser keeps in ``Sample.state``."""

    run: PipelineRun
    parts: Sequence[tuple[Pipeline, ImageScheduler]]  #: one, or two if a second model refines
    unseen: Sequence[str] = ()  #: the ends of its prompts that no text encoder has seen

    @property
    def scheduler(self) -> ImageScheduler:
        """That of the part that it is in."""
        return next((each for _, each in reversed(self.parts) if each.steps_done), self.parts[0][1])

    @property
    def steps_done(self) -> int:
        return sum(scheduler.steps_done for _, scheduler in self.parts)

    @property
    def steps(self) -> int:
        """Denoising steps of an image that has begun: its pipelines count them, else the first scheduler has them."""
        counted: list[int | None] = [getattr(pipeline, "_num_timesteps", None) for pipeline, _ in self.parts]
        known = [steps for steps in counted if steps is not None]
        return sum(known) if len(known) == len(counted) else len(self.parts[0][1].scheduler.timesteps)


def state_of(sample: Sample) -> ImageRun:
    """What the denoiser keeps of an image that has begun."""
    if not isinstance(sample.state, ImageRun):
        raise TypeError(f"a sample of another denoiser: {type(sample.state)}")
    return sample.state


def note_progress(sample: Sample, denoisers: Sequence[torch.nn.Module]) -> None:
    """Have ``sample`` tell how far its run is, and what its next call of one of ``denoisers`` is like."""
    state = state_of(sample)
    call = state.run.call
    sample.step, sample.steps, sample.unseen = state.steps_done, state.steps, state.unseen
    sample.finished = call is None or call.module not in denoisers
    if call is not None and not sample.finished:
        sample.kind, sample.rows = sample.kind.with_structure((id(call.function), call.key)), call.rows
    elif call is not None:
        sample.decoding = id(call.function), call.key


def facts_of(sample: Sample, model: str) -> ImageFacts:
    """What was really used, where the request left the choice to ``model``."""
    request = sample.task.request
    return ImageFacts(
        id=request.id,
        index=sample.index,
        count=request.count,
        type=request.type,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        seed=request.image_seed(sample.index),
        width=sample.kind.width,
        height=sample.kind.height,
        steps=request.steps,
        guidance_scale=request.guidance_scale,
        sampler=state_of(sample).scheduler.name,
        strength=request.strength if request.type != "txt2img" else None,
        eta=request.eta,
        clip_skip=request.clip_skip,
        subseed=request.image_subseed(sample.index) if request.subseed_strength else None,
        subseed_strength=request.subseed_strength or None,
        tiling=request.tiling or None,
        guidance_rescale=request.guidance_rescale or None,
        loras=as_tags(request.loras) or None,
        vae=request.vae,
        model=model,
    )


def make_calls_until(runs: Sequence[PipelineRun], stops_at: Callable[[torch.nn.Module], bool]) -> None:
    """Make the calls of ``runs``, those that are alike together, until each is suspended at a network to stop at.

    So prompts that come at the same moment are encoded together, and pictures with the same ControlNet ask it together.
    A run whose call fails, also alone, is told so where it is suspended.
    """
    while waiting := [run for run in runs if run.call is not None and not stops_at(run.call.module)]:
        for group in alike(waiting):
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
