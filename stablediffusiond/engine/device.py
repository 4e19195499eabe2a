"""What the engine needs of a device. ``pipeline_denoiser`` is the real one; the tests have one that counts."""

from collections.abc import Sequence
from typing import Protocol

from stablediffusiond.engine.capacity import Measured
from stablediffusiond.engine.job import Kind, Pixels, Sample
from stablediffusiond.errors import JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import Offer


class Denoiser(Protocol):
    """The device. Each method may raise a JobError, and then leaves the samples as they were.

    It keeps what samples say of themselves (``kind``, ``rows``, ``step``, ``steps``, ``finished``) up to date.
    """

    shortcoming: str | None
    """Why it draws on this device and not on a better one."""

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def memory_bytes(self) -> int | None:
        """Memory held on the device; None where nobody keeps an account of it."""
        ...

    @property
    def nbytes(self) -> int:
        """Of the weights."""
        ...

    def room_bytes(self) -> int:
        """Memory that the device has for the weights of models."""
        ...

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        """Choose what ``request`` leaves to the model; with warnings about what the model has no use for.

        May be called from any thread, as may the next four.

        Raises:
            InvalidRequest: the model cannot draw it.
        """
        ...

    def kind_of(self, request: Request) -> Kind: ...
    def rows_of(self, request: CompleteRequest) -> int: ...
    def names_files(self, request: Request) -> bool:
        """Whether ``read_files`` has anything to do for ``request``."""
        ...

    def read_files(self, request: Request) -> object:
        """What ``Task.files`` is for ``request``: LoRAs and the like. Beside what the device does; from any thread.

        Raises:
            InvalidRequest, ModelError: it names files that are not there, or not for this model.
        """
        ...

    def offer(self) -> Offer | None:
        """What requests may name, if that is known; looks into files, and may be called from any thread."""
        ...

    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        """Bring images before their first step; those that cannot be begun, by their place."""
        ...

    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        """One call of the denoiser for ``samples``, which are of one kind; those that failed alone, by place."""
        ...

    def finish(self, samples: Sequence[Sample]) -> list[Pixels | JobError]:
        """Decode images, which are of one size, at once; of each its picture, or what went wrong with it."""
        ...

    def drop(self, sample: Sample) -> None:
        """Free what an image holds that has begun and will not be finished."""
        ...

    def facts(self, sample: Sample) -> ImageFacts: ...
    def preview(self, sample: Sample) -> Pixels: ...
    def free_memory(self) -> None: ...


class MovableDenoiser(Denoiser, Protocol):
    """One whose weights may leave the device and come back, while no image is drawn with it."""

    @property
    def can_leave(self) -> bool: ...
    def leave(self) -> None:
        """Raises MemoryError: the host has no room."""
        ...

    def come_back(self) -> None:
        """Raises OutOfMemory: the device has no room."""
        ...


class MeasurableDenoiser(MovableDenoiser, Measured, Protocol):
    """One that was just loaded."""
