"""What is found out about a model before its first job: that it draws, for which tasks, and in which colours."""

import logging
from typing import Final

import torch
from PIL import Image

from stablediffusiond.engine.call import Call, repeated
from stablediffusiond.engine.device import Denoiser
from stablediffusiond.engine.device_errors import as_job_errors
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.previews import Previewer, examples
from stablediffusiond.engine.timing import seconds_of
from stablediffusiond.errors import JobError, ModelError
from stablediffusiond.messages.request import JobType, Request

log = logging.getLogger(__name__)

_GREY: Final = (128, 128, 128)
_WHITE: Final = 255
_PICTURE: Final = b"opened already"


class Trials:
    """Draws with ``denoiser``, whose pipelines are ``pipelines``, what nobody has asked for."""

    def __init__(self, denoiser: Denoiser, pipelines: ModelPipelines) -> None:
        self._denoiser = denoiser
        self._pipelines = pipelines
        #: How the last picture called its decoder.
        self._decode: Call | None = None

    def draw(self) -> None:
        """One image, so that the first job is no slower than the second; what is timed later is the call of this one.

        Raises:
            JobError: the model does not draw.
        """
        pixels = self._draw(self._least())
        if not pixels.any():
            log.warning(
                "the first picture of this model is black: try another [model] dtype, above all float32 or bfloat16"
            )

    def denoise(self) -> None:
        """The steps of what ``draw`` draws, without its decoding.

        Raises:
            JobError: the model makes no steps.
        """
        sample = self._least()
        for error in self._denoiser.begin([sample]).values():
            raise error
        self._step_to_the_end(sample)
        self._denoiser.drop(sample)

    def time_rows(self, rows: int) -> float:
        """Seconds of a call of the denoiser with so many rows of the model's own size.

        Raises:
            OutOfMemory: they do not fit.
        """
        if not self._pipelines.forward.has_example:
            self.draw()
        with torch.inference_mode(), as_job_errors():
            return self._pipelines.forward.seconds(rows)

    def time_decodes(self, images: int) -> float:
        """Seconds in which so many pictures of the model's own size are decoded at once.

        Raises:
            OutOfMemory: they do not fit.
        """
        if self._decode is None:
            self.draw()
        if self._decode is None:
            return 0.0  # a pipeline without a decoder
        with torch.inference_mode(), as_job_errors():
            return seconds_of(repeated(self._decode, images), device_of(self._pipelines.base))

    def pixels(self) -> int:
        """Those of the picture that ``draw`` draws."""
        return self._least().kind.pixels

    def check_tasks(self) -> None:
        """Take out the tasks whose pipelines raise before their first step: of another model, or broken.

        Raises:
            JobError: that of the first, if none is left.
        """
        failures: dict[JobType, JobError] = {}
        for task in self._pipelines.by_task:
            sample = self._least(task)
            if failed := self._denoiser.begin([sample]):
                failures[task] = failed[0]
            else:
                self._denoiser.drop(sample)
        if len(failures) == len(self._pipelines.by_task):
            raise next(iter(failures.values()))
        for task, error in failures.items():
            log.info("this model is not used for %s: %s", task, error)
            del self._pipelines.by_task[task]

    def fit(self, previewer: Previewer) -> None:
        """Have ``previewer`` learn from latents of many colours what the model's own decoder makes of them."""
        sample = self._least()
        for error in self._denoiser.begin([sample]).values():
            raise error
        scheduler = state_of(sample).scheduler
        scheduler.replace = lambda latents: examples(latents, sample.kind)
        pixels = self._finish(sample)
        if scheduler.latents is not None:
            previewer.fit(scheduler.latents, pixels, sample.kind)

    def _draw(self, sample: Sample) -> Pixels:
        """An image from its beginning to its end, with nothing beside it."""
        for error in self._denoiser.begin([sample]).values():
            raise error
        if (call := state_of(sample).run.call) is not None:
            self._pipelines.forward.measure_by(call)
        return self._finish(sample)

    def _finish(self, sample: Sample) -> Pixels:
        self._step_to_the_end(sample)
        if (call := state_of(sample).run.call) is not None:
            self._decode = repeated(call, call.rows)
        [decoded] = self._denoiser.finish([sample])
        if isinstance(decoded, JobError):
            raise decoded
        if state_of(sample).scheduler.latents is None:
            raise ModelError("its pipeline makes no step of its scheduler")
        return decoded

    def _step_to_the_end(self, sample: Sample) -> None:
        while not sample.finished:
            for error in self._denoiser.step([sample], sample.rows).values():
                raise error

    def _least(self, task: JobType | None = None) -> Sample:
        """The least that can be drawn in the model's own size: some pipelines take one step for a distilled model's."""
        task = task or next(iter(self._pipelines.by_task))
        begins_with = {"image": _PICTURE} if task != "txt2img" else {}
        masked = {"mask": _PICTURE} if task == "inpaint" else {}
        asked = Request(id="trial", type=task, prompt="", steps=2, strength=1, **begins_with, **masked)
        request, _ = self._denoiser.complete(asked)
        kind = self._denoiser.kind_of(request)
        size = kind.width, kind.height
        image = Image.new("RGB", size, _GREY) if begins_with else None
        mask = Image.new("L", size, _WHITE) if masked else None
        return Sample(Task(0, request, None, image, mask), 0, kind, self._denoiser.rows_of(request))
