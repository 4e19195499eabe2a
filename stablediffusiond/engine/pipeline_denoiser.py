"""The device: each image is a run of one of diffusers' own pipelines, suspended between two calls of its network.

A step of a batch makes the calls at which its runs are suspended as one, and resumes each with its rows of the answer;
the pipeline then does what it does: guidance, the scheduler's step, the next call. So an image that is drawn in a batch
is the image that the pipeline draws alone, and no model's arithmetic stands here.
"""

from collections.abc import Sequence
from typing import Final

import torch

from stablediffusiond.engine.beginning import begin
from stablediffusiond.engine.beside_model import NOTHING_BESIDE, BesideModel
from stablediffusiond.engine.capacity import ROWS_OF_ONE_IMAGE
from stablediffusiond.engine.coalescing import answer
from stablediffusiond.engine.decoding import pictures_of
from stablediffusiond.engine.device_errors import as_job_errors, first_line, job_error
from stablediffusiond.engine.host_weights import HostWeights
from stablediffusiond.engine.image_run import facts_of, make_calls_between_steps, note_progress, state_of
from stablediffusiond.engine.job import Pixels, Sample
from stablediffusiond.engine.model_defaults import ModelDefaults, defaults_of
from stablediffusiond.engine.networks import Pipeline, bytes_of, modules_of
from stablediffusiond.engine.pipeline_requests import PipelineRequests
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.previews import Previewer
from stablediffusiond.engine.refiner import Refiner
from stablediffusiond.engine.trials import Trials
from stablediffusiond.errors import InvalidRequest, JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.settings import CompileMode, FolderSettings, VaeTiling

#: Others wait for a tile of an upscaler as long as for so many steps.
_STEPS_OF_A_TILE: Final = 2
#: As long as nothing was measured.
_TILE_SECONDS: Final = 0.2


class PipelineDenoiser(PipelineRequests):
    """Draws with the pipelines of one model, called ``name``."""

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        *,
        defaults: ModelDefaults | None = None,
        compile_mode: CompileMode = "off",
        refiner: Refiner | None = None,
        folders: FolderSettings | None = None,
        vae_tiling: VaeTiling = "off",
        beside: BesideModel = NOTHING_BESIDE,
    ) -> None:
        defaults = defaults or defaults_of(pipeline, name)
        pipelines = ModelPipelines(pipeline, defaults, compile_mode, folders, vae_tiling=vae_tiling, beside=beside)
        super().__init__(pipelines, name)
        self._refiner = refiner
        self._compile_mode = compile_mode
        networks = [*modules_of(pipeline), *(modules_of(refiner.pipelines.base) if refiner else [])]
        self._host_weights = HostWeights(networks, self._device)
        models = [self._pipelines, *([refiner.pipelines] if refiner else [])]
        self.decoders = [module for model in models for module in model.decoders]
        self._previewer = Previewer.for_model(pipeline)
        self._trials = Trials(self, self._pipelines)
        #: Whether a picture is never too large to be decoded.
        self.decodes_in_tiles = False
        #: Rows that images had in a call, by what is known of them before their first.
        self._rows: dict[tuple[str, bool], int] = {}
        self._longest_tile_seconds = _TILE_SECONDS  #: of an upscaler: as long as two steps of one image

    # Beginning

    def rows_of(self, request: CompleteRequest) -> int:
        """Rows of one image in a call, as images like it had; before the first, two under guidance."""
        return self._rows.get(_rows_key(request), 2 if request.guided and request.type != "upscale" else 1)

    @torch.inference_mode()
    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        """Bring images before their first step; those that cannot be begun, by their place.

        Prompts that have to be encoded at the same moment are encoded together.
        """
        refused: dict[int, JobError] = {}
        for place, sample in enumerate(samples):
            try:
                sample.state = begin(sample, self._pipelines, self._refiner, self._longest_tile_seconds)
            except JobError as error:
                refused[place] = error
        started = {place: sample for place, sample in enumerate(samples) if place not in refused}
        make_calls_between_steps([state_of(each) for each in started.values()])
        failed = self._look_at(list(started.values()), beginning=True)
        return refused | {place: failed[nth] for nth, place in enumerate(started) if nth in failed}

    @torch.inference_mode()
    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        """One call of the denoiser for ``samples``, which are of one kind.

        Returns what went wrong with single samples, by their place; the others have made their step.

        Raises:
            OutOfMemory, ModelError: the call failed, and no sample has made a step.
        """
        images = [state_of(sample) for sample in samples]
        with as_job_errors():
            answer([image.run for image in images], rows_at_once)
        make_calls_between_steps(images)
        return self._look_at(samples)

    def _look_at(self, samples: Sequence[Sample], *, beginning: bool = False) -> dict[int, JobError]:
        """Note in each sample how far it is; returns the errors of those that have failed, by their place."""
        failures: dict[int, JobError] = {}
        for place, sample in enumerate(samples):
            if (error := state_of(sample).run.failure) is not None:
                failures[place] = _begin_error(error) if beginning else job_error(error)
                continue
            note_progress(sample)
            self._rows[_rows_key(sample.task.request)] = sample.rows
        return failures

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        return bytes_of(self._pipelines.base) + (bytes_of(self._refiner.pipelines.base) if self._refiner else 0)

    @property
    def dtype(self) -> str:
        return str(self._pipelines.denoiser.dtype).removeprefix("torch.")

    # Away from the device and back

    @property
    def can_leave(self) -> bool:
        """Where calls are replayed as CUDA graphs, weights have to stay where they were recorded."""
        return self._compile_mode != "max" and self._host_weights.can_leave

    def leave(self) -> None:
        """Raises MemoryError: the host has no room."""
        self.free_memory()
        self._host_weights.leave()

    def come_back(self) -> None:
        """Raises OutOfMemory: the device has no room."""
        with as_job_errors():
            self._host_weights.come_back()

    # Before the first job

    def warm_up(self) -> None:
        """Draw once, so that the first job is no slower than the second; find out which tasks the model is for.

        Raises:
            JobError: the model does not draw.
        """
        self._trials.check_tasks()
        self._trials.draw()
        if not self._previewer.has_map:
            self._trials.fit(self._previewer)

    def time_rows(self, rows: int) -> float:
        """Seconds of a call of the denoiser with so many rows of the model's own size.

        Raises:
            OutOfMemory: they do not fit.
        """
        seconds = self._trials.time_rows(rows)
        if rows <= ROWS_OF_ONE_IMAGE:
            self._longest_tile_seconds = _STEPS_OF_A_TILE * seconds
        return seconds

    def time_decodes(self, images: int) -> float:
        """Seconds in which so many pictures of the model's own size are decoded at once.

        Raises:
            OutOfMemory: they do not fit.
        """
        return self._trials.time_decodes(images)

    def most_pixels(self) -> int | None:
        """The pixels of the largest picture that the device has memory for; None where that cannot be told."""
        work = self._trials.denoise if self.decodes_in_tiles else self._trials.draw
        return self.most_pixels_by(self._trials.pixels(), work)

    # Finishing

    @torch.inference_mode()
    def finish(self, samples: Sequence[Sample]) -> list[Pixels | JobError]:
        """Decode images of one size at once: the picture of each, (H, W, 3) uint8 in host memory, or its error."""
        return pictures_of([state_of(sample).run for sample in samples])

    def drop(self, sample: Sample) -> None:
        """End an image where it is; what it holds is free at once."""
        if sample.state is not None:
            state_of(sample).run.cancel()

    def facts(self, sample: Sample) -> ImageFacts:
        """What was really used, where the request left the choice to the model."""
        return facts_of(sample, self._name)

    @torch.inference_mode()
    def preview(self, sample: Sample) -> Pixels:
        """What the image looks like so far, one pixel for each latent, uint8, in host memory."""
        shown = state_of(sample).parts.shown
        return self._previewer.show(None if shown is None else shown.scheduler.latents, (shown or sample).kind)

    def free_memory(self) -> None:
        """Give cached memory back, after a failure."""
        self._pipelines.prompts.clear()
        super().free_memory()


def _rows_key(request: CompleteRequest) -> tuple[str, bool]:
    return request.type, request.guided


def _begin_error(error: Exception) -> JobError:
    """What a pipeline does not accept before its first step is the request's fault."""
    return InvalidRequest(first_line(error)) if isinstance(error, ValueError) else job_error(error)
