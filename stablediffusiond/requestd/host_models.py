"""Models that have made room on the device and wait in host memory, as many as there is room for: LRU by bytes."""

import logging
import re
from collections import OrderedDict
from pathlib import Path
from typing import Final

from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.settings import ResidencySettings

log = logging.getLogger(__name__)

_MEMORY: Final = Path("/proc/meminfo")
#: Of what is free; the rest is for pictures, and for other programs.
_PART: Final = 0.5


def most_bytes(settings: ResidencySettings, device: str) -> int:
    """Host memory for models; where the device is the host itself, there is no place beside it."""
    if settings.host_bytes != "auto":
        return int(settings.host_bytes)
    if device.startswith("cpu"):
        return 0
    free = re.search(r"^MemAvailable: *(\d+) kB$", _MEMORY.read_text("ascii"), re.MULTILINE)
    return int(_PART * 1024 * int(free[1])) if free else 0


class HostModels:
    """Those of one daemon; ``most_bytes`` may be 0."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()

    @property
    def nbytes(self) -> dict[str, int]:
        """Of each model, the longest unused first."""
        return {name: model.nbytes for name, model in self._models.items()}

    def keep(self, name: str, model: LoadedModel) -> None:
        """Bring ``model`` from the device to the host, if it can be and has room there. Copies, and takes its time."""
        if model.nbytes > self._most_bytes or not model.denoiser.can_leave:
            return
        for other in self._surplus(model.nbytes):
            del self._models[other]
            log.debug("%s leaves host memory", other)
        try:
            model.denoiser.leave()
        except MemoryError as error:
            log.debug("%s is not kept in host memory: %s", name, error)
        else:
            self._models[name] = model

    def bring_back(self, name: str) -> LoadedModel | None:
        """A model that is here, on the device again; None if it is not here. Copies, and takes its time.

        Raises:
            OutOfMemory: the device has no room for it; it is forgotten.
        """
        model = self._models.pop(name, None)
        if model is not None:
            model.denoiser.come_back()
        return model

    def _surplus(self, more_bytes: int) -> list[str]:
        """Who has to go, the longest unused first, before a model of so many bytes comes."""
        held = more_bytes + sum(self.nbytes.values())
        gone = []
        for name, nbytes in self.nbytes.items():
            if held <= self._most_bytes:
                break
            gone.append(name)
            held -= nbytes
        return gone
