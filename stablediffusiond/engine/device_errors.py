"""What torch and diffusers raise, as errors of the job at hand."""

import contextlib
from collections.abc import Iterator

import torch

from stablediffusiond.errors import JobError, ModelError, OutOfMemory


@contextlib.contextmanager
def as_job_errors() -> Iterator[None]:
    """Turn whatever is raised inside into a JobError."""
    try:
        yield
    except JobError:
        raise
    except Exception as error:
        raise job_error(error) from error


def job_error(error: Exception) -> JobError:
    if isinstance(error, JobError):
        return error
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in said:
        return OutOfMemory(f"the device has no room for this: {said}")
    return ModelError(f"{type(error).__name__}: {said}")
