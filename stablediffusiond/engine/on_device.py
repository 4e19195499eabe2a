"""What the engine asks of the device itself: its name, its memory."""

import os
from collections.abc import Callable
from typing import Final

import torch

from stablediffusiond.engine.memory import memory_of, most_pixels

#: How much of a GPU's memory the weights of models may have. Chosen, not measured: the rest is for what the calls of
#: networks need while they last, most of all the VAE's.
_OF_GPU: Final = 0.7
#: … and of a host's, in which there are also the broker, and the page cache that files of models are read through.
_OF_HOST: Final = 0.5


class OnDevice:
    """A base of the denoiser."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        #: Why it is this device and not a better one.
        self.shortcoming: str | None = None

    @property
    def device(self) -> str:
        name = str(self._device)
        return f"{name} ({torch.cuda.get_device_name(self._device)})" if self._device.type == "cuda" else name

    def memory_bytes(self) -> int | None:
        """Memory held on the device; None where nobody keeps an account of it."""
        memory = memory_of(self._device)
        return None if memory is None else memory.held_bytes()

    def room_bytes(self) -> int:
        """Memory for the weights of models; what pictures need is left."""
        if self._device.type == "cuda":
            return int(_OF_GPU * torch.cuda.mem_get_info(self._device)[1])
        return int(_OF_HOST * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    def most_pixels_by(self, pixels: int, draw: Callable[[], None]) -> int | None:
        """The pixels of the largest picture that fits, where ``draw`` draws one of ``pixels``; None if nobody knows."""
        memory = memory_of(self._device)
        return None if memory is None else most_pixels(memory, pixels, draw)

    def free_memory(self) -> None:
        """Give cached memory back."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
