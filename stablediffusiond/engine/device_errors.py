"""What torch and diffusers raise, as errors of the job at hand, or of the device itself."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from stablediffusiond.errors import DeviceBroken, JobError, ModelError, OutOfMemory

_NO_MEMORY: Final = re.compile(r"can't allocate memory|out of memory|STATUS_ALLOC_FAILED|NOT_ENOUGH_WORKSPACE", re.I)
#: After such an error every later call of the process fails as well.
#: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaErrorIllegalAddress and its neighbours
_BROKEN: Final = re.compile(r"(CUDA|HIP|CUBLAS|cuDNN|CUDNN|NCCL|MPS) error|CUBLAS_STATUS_|device-side assert", re.I)


@contextlib.contextmanager
def as_job_errors() -> Iterator[None]:
    """Turn what is raised inside into a JobError.

    Raises:
        DeviceBroken: it is the device's end, and no job's fault.
    """
    try:
        yield
    except (JobError, DeviceBroken):
        raise
    except Exception as error:
        raise job_error(error) from error


def job_error(error: Exception) -> JobError:
    """``error`` as that of a job.

    Raises:
        DeviceBroken: it is the device's end, and no job's fault.
    """
    if isinstance(error, JobError):
        return error
    reason = first_line(error)
    if is_out_of_memory(error):
        return OutOfMemory(f"the device has no room for this: {reason}")
    raise_if_broken(error)
    return ModelError(f"{type(error).__name__}: {reason}")


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that the device, or this machine, has no more memory."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(_NO_MEMORY.search(first_line(error)))


def first_line(error: Exception) -> str:
    """What an operator reads of ``error``; its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def unreadable(kind: str, path: Path, error: Exception) -> ModelError:
    """What the client is told whose request names a file that cannot be read: its name, and not where it is."""
    reason = first_line(error).replace(f"{path.parent}/", "")
    return ModelError(f"the {kind} {path.stem!r} cannot be read: {reason}")


def raise_if_broken(error: Exception) -> None:
    """Raise DeviceBroken if ``error`` says that the device has failed for good."""
    reason = first_line(error)
    if isinstance(error, DeviceBroken):
        raise error
    if isinstance(error, RuntimeError) and _BROKEN.search(reason) and not _NO_MEMORY.search(reason):
        raise DeviceBroken(
            f"the device has failed: {reason}; this process ends and is started again, and the jobs stay in the queue. "
            "If it fails again, look at the driver: nvidia-smi, journalctl -k"
        ) from error
