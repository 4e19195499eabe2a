"""Images decoded by the real denoiser, where all of them can be."""

from collections.abc import Sequence

from stablediffusiond.engine.job import Pixels, Sample
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import JobError


def all_finished(denoiser: PipelineDenoiser, samples: Sequence[Sample]) -> list[Pixels]:
    """The pictures of ``samples``, decoded at once.

    Raises:
        JobError: what went wrong with the first that has none.
    """
    decoded = denoiser.finish(samples)
    pictures = [each for each in decoded if not isinstance(each, JobError)]
    if len(pictures) < len(samples):
        raise next(each for each in decoded if isinstance(each, JobError))
    return pictures


def finished(denoiser: PipelineDenoiser, sample: Sample) -> Pixels:
    """The picture of ``sample``.

    Raises:
        JobError: it has none.
    """
    return all_finished(denoiser, [sample])[0]
