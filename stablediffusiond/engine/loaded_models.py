"""Several models in the place of one device: whatever is asked of a device is asked of the model that is meant.

Images of different models never share a call: their kinds have the model's name. Models come and go between two ticks;
one that goes has no images here any more.
"""

from collections.abc import Mapping, Sequence

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.changeover import Resident
from stablediffusiond.engine.device import Denoiser
from stablediffusiond.engine.job import Kind, Pixels, Sample
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.errors import JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import Offer


class LoadedModels:
    """A ``Denoiser``, and its ``CallSizes``. Requests name their models by the names given here."""

    def __init__(self, default: str, loaded: LoadedModel) -> None:
        self._default = default
        self._loaded = {default: loaded}
        self.shortcoming = loaded.denoiser.shortcoming
        #: That of the default model; it stays the same while that model is away.
        self.capacity = loaded.capacity
        self._said = loaded.denoiser.device, loaded.denoiser.dtype, loaded.denoiser.room_bytes()
        self._offer: Offer | None = None

    # From any thread

    def __contains__(self, name: str) -> bool:
        return name in self._loaded

    @property
    def names(self) -> list[str]:
        return list(self._loaded)

    @property
    def nbytes(self) -> int:
        return sum(each.nbytes for each in list(self._loaded.values()))

    def bytes_of(self, name: str) -> int:
        return self._loaded[name].nbytes if name in self._loaded else 0

    def residents(self, jobs: Mapping[str, int], last_used: Mapping[str, float]) -> list[Resident]:
        """As ``changeover.py`` looks at them."""
        return [
            Resident(name, loaded.nbytes, jobs.get(name, 0), last_used.get(name, 0.0))
            for name, loaded in self._loaded.items()
        ]

    def add(self, name: str, loaded: LoadedModel) -> None:
        self._loaded = {**self._loaded, name: loaded}  # whoever looks meanwhile sees the one or the other

    def remove(self, name: str) -> LoadedModel:
        """Forget a model that no image is drawn with; it is returned."""
        removed = self._loaded[name]
        self._loaded = {each: loaded for each, loaded in self._loaded.items() if each != name}
        return removed

    @property
    def device(self) -> str:
        return self._said[0]

    @property
    def dtype(self) -> str:
        """The default model's."""
        return self._said[1]

    def room_bytes(self) -> int:
        return self._said[2]

    def memory_bytes(self) -> int | None:
        some = next(iter(self._loaded.values()), None)
        return None if some is None else some.denoiser.memory_bytes()

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        return self._of(request.model).complete(request)

    def kind_of(self, request: Request) -> Kind:
        return self._of(request.model).kind_of(request)

    def rows_of(self, request: CompleteRequest) -> int:
        return self._of(request.model).rows_of(request)

    def names_files(self, request: Request) -> bool:
        return self._of(request.model).names_files(request)

    def read_files(self, request: Request) -> object:
        return self._of(request.model).read_files(request)

    def offer(self) -> Offer | None:
        """That of the default model; while it is away, the last one; None if it never made any."""
        if self._default in self._loaded:
            self._offer = self._of(self._default).offer()
        return self._offer

    # What the engine asks before its calls

    def own_of(self, name: str) -> Kind | None:
        """The own size of a model; None while it is not here."""
        return self._loaded[name].capacity.own if name in self._loaded else None

    def rows_at_most(self, kind: Kind, urgent_rows: int = 0) -> int:
        return self._capacity_of(kind).rows_at_most(kind, urgent_rows)

    def seconds_of(self, kind: Kind, rows: int) -> float:
        return self._capacity_of(kind).seconds_of(kind, rows)

    def learn_too_many(self, kind: Kind, rows: int) -> None:
        self._capacity_of(kind).learn_too_many(kind, rows)

    def forget(self, kind: Kind) -> None:
        self._capacity_of(kind).forget(kind)

    def most_pixels_for(self, kind: Kind) -> int | None:
        return self._capacity_of(kind).most_pixels

    def decodes_at_most(self, kind: Kind, longest_seconds: float | None) -> int:
        return self._capacity_of(kind).decodes_at_most(kind, longest_seconds)

    def _capacity_of(self, kind: Kind) -> Capacity:
        """An upscaler's tile is of no model, and is reckoned with the default one's."""
        loaded = self._loaded.get(kind.model)
        return self.capacity if loaded is None else loaded.capacity

    # On the engine's thread

    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        failures: dict[int, JobError] = {}
        for name in dict.fromkeys(_model(sample) for sample in samples):
            places = [place for place, sample in enumerate(samples) if _model(sample) == name]
            failed = self._of(name).begin([samples[place] for place in places])
            failures |= {places[nth]: error for nth, error in failed.items()}
        return failures

    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        return self._of(_model(samples[0])).step(samples, rows_at_once)

    def finish(self, samples: Sequence[Sample]) -> list[Pixels | JobError]:
        return self._of(_model(samples[0])).finish(samples)

    def drop(self, sample: Sample) -> None:
        self._of(_model(sample)).drop(sample)

    def facts(self, sample: Sample) -> ImageFacts:
        return self._of(_model(sample)).facts(sample)

    def preview(self, sample: Sample) -> Pixels:
        return self._of(_model(sample)).preview(sample)

    def free_memory(self) -> None:
        for loaded in list(self._loaded.values()):
            loaded.denoiser.free_memory()

    def _of(self, name: str | None) -> Denoiser:
        return self._loaded[name or self._default].denoiser


def _model(sample: Sample) -> str | None:
    return sample.task.request.model
