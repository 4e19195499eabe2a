"""How large a picture the device has memory for: measured while warming up, for devices that keep an account of it."""

from collections.abc import Callable
from typing import Final, Protocol

import torch

#: A share of what is free is left for what nobody has measured.
_USABLE: Final = 0.9


class Memory(Protocol):
    """A device's account of its memory."""

    def held_bytes(self) -> int: ...
    def free_bytes(self) -> int: ...
    def peak_bytes(self, work: Callable[[], object]) -> int:
        """What ``work`` needs beyond what is there before it, at its height."""
        ...


class CudaMemory:
    """What torch's caching allocator and the driver say of one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def held_bytes(self) -> int:
        return torch.cuda.memory_reserved(self._device)

    def free_bytes(self) -> int:
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)

    def peak_bytes(self, work: Callable[[], object]) -> int:
        torch.cuda.synchronize(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before


def memory_of(device: torch.device) -> Memory | None:
    """None where the system gives memory until it ends the process: there is no account to look into."""
    return CudaMemory(device) if device.type == "cuda" else None


def most_pixels(memory: Memory, pixels: int, work: Callable[[], object]) -> int:
    """The pixels of the largest picture that fits, if one of ``pixels`` takes what ``work`` takes.

    What a UNet and an autoencoder need grows with the pixels, as long as attention is computed in blocks (PyTorch's
    scaled_dot_product_attention does).
    """
    return int(_USABLE * memory.free_bytes() * pixels // max(1, memory.peak_bytes(work)))
