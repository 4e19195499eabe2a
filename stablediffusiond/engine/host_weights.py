"""Weights of a model that is away from the device: in host memory, from where they come back faster than from files.

The modules stay what they are; their tensors' data is pointed elsewhere. So whatever knows the modules (pipelines,
compiled calls, held modules) needs not know that they were away. The host's copy is kept when the weights come back,
since nothing ever writes on them: the next time that they leave nothing is copied.
"""

from collections.abc import Iterable

import torch


class HostWeights:
    """Those of ``modules``, which are on ``device``."""

    def __init__(self, modules: Iterable[torch.nn.Module], device: torch.device) -> None:
        tensors = (tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
        self._tensors = list({id(tensor): tensor for tensor in tensors}.values())
        self._device = device
        self._copies: list[torch.Tensor] | None = None

    @property
    def can_leave(self) -> bool:
        """Not those that some library keeps in a form of its own (quantized), or moves itself (offloaded)."""
        plain = (torch.nn.Parameter, torch.Tensor)
        return all(type(tensor) in plain and tensor.device == self._device for tensor in self._tensors)

    @torch.no_grad()
    def leave(self) -> None:
        """From the device to the host: pinned, as far as the system allows it, since that is copied back faster.

        Raises:
            MemoryError: the host has no room.
        """
        if self._copies is None:
            copies = [tensor.data.to("cpu", copy=True) for tensor in self._tensors]
            self._copies = _pinned(copies) if self._device.type == "cuda" else copies
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # no call that was made with them is under way
        for tensor, copy in zip(self._tensors, self._copies, strict=True):
            tensor.data = copy

    @torch.no_grad()
    def come_back(self) -> None:
        """To the device, on a stream of its own where that has streams: what steps there goes on.

        Raises:
            torch.OutOfMemoryError: the device has no room; everything is on the host as before.
        """
        if self._copies is None:
            return
        if self._device.type == "cuda":
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(stream):
                there = [copy.to(self._device, non_blocking=True) for copy in self._copies]
            stream.synchronize()
        else:
            there = [copy.to(self._device, copy=True) for copy in self._copies]
        for tensor, data in zip(self._tensors, there, strict=True):
            tensor.data = data


def _pinned(copies: list[torch.Tensor]) -> list[torch.Tensor]:
    """Those that the system lets be pinned; the others are copied more slowly."""
    pinned: list[torch.Tensor] = []
    for place, copy in enumerate(copies):
        try:
            pinned.append(copy.pin_memory())
        except RuntimeError:  # the limit of locked memory, or of what the driver maps
            return [*pinned, *copies[place:]]
    return pinned
