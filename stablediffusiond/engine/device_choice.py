"""Which device is drawn on, and in which precision: what there is, what it can do, and what the model wants."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from stablediffusiond.errors import DeviceAway, ModelUnavailable

log = logging.getLogger(__name__)

_DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: How long a driver may take at boot to make its devices.
_DRIVER_SECONDS: Final = 30
_LOOK_SECONDS: Final = 0.5
_PCI: Final = Path("/sys/bus/pci/devices")
_NVIDIA: Final = "0x10de"
_DISPLAY: Final = "0x03"
_NODES: Final = (Path("/dev/nvidiactl"), Path("/dev/nvidia-uvm"))


@dataclass(frozen=True)
class Device:
    torch: torch.device
    shortcoming: str | None = None
    """Why it is not the one that was hoped for."""


def choose_device(name: str) -> Device:
    """The device ``name``; for ``auto`` the best that there is.

    Raises:
        DeviceAway: a GPU is asked for, and there is none, or not yet.
        ModelUnavailable: this torch cannot compute with the GPU that there is.
    """
    if name == "cpu" or (name == "auto" and torch.backends.mps.is_available()):
        return Device(torch.device("cpu" if name == "cpu" else "mps"))
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceAway('[model] device is "mps", and there is no such device here; write "auto" or "cpu"')
        return Device(torch.device(name))
    _wait_for_driver()
    if torch.cuda.is_available():
        chosen = torch.device("cuda" if name == "auto" else name)
        _require_index(chosen)
        _require_kernels(chosen)
        return Device(chosen)
    why = _why_not()
    if name != "auto":
        raise DeviceAway(f'[model] device is {name!r}, and there is no CUDA here: {why}; or write "auto" or "cpu"')
    if not _has_card():
        return Device(torch.device("cpu"))
    log.warning("drawing on the CPU: %s", why)
    return Device(torch.device("cpu"), why)


def choose_dtype(name: str, device: torch.device, networks: frozenset[str]) -> torch.dtype:
    """The precision ``name``; for ``auto`` that which models with such networks are published to be run in.

    Raises:
        ModelUnavailable: the device cannot compute in it.
    """
    if name == "auto":
        if device.type == "cpu":
            return torch.float32
        if device.type == "mps" or "unet" in networks:
            return torch.float16
        if _computes_bfloat16(device):
            return torch.bfloat16
        log.warning(
            "%s does not compute in bfloat16, which this model is made for: float16, which may overflow", device
        )
        return torch.float16
    if name == "bfloat16" and device.type == "cuda" and not _computes_bfloat16(device):
        raise ModelUnavailable(
            f'{torch.cuda.get_device_name(device)} does not compute in bfloat16; write dtype = "auto"'
        )
    return _DTYPES[name]


def _computes_bfloat16(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _wait_for_driver() -> None:
    """Wait for the devices of a card that is there, since torch looks for it once."""
    if torch.version.cuda is None or not _has_card() or all(node.exists() for node in _NODES):
        return
    log.info("waiting for the driver of the GPU: %s", ", ".join(str(node) for node in _NODES if not node.exists()))
    end = time.monotonic() + _DRIVER_SECONDS
    while time.monotonic() < end and not all(node.exists() for node in _NODES):
        time.sleep(_LOOK_SECONDS)


def _has_card() -> bool:
    """Whether a card of NVIDIA's is plugged in, whatever its driver does."""
    return any(vendor == _NVIDIA and kind.startswith(_DISPLAY) for vendor, kind in _cards())


def _cards() -> Iterator[tuple[str, str]]:
    for device in _PCI.glob("*"):
        with contextlib.suppress(OSError):
            yield (device / "vendor").read_text("ascii").strip(), (device / "class").read_text("ascii").strip()


def _why_not() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return f"this torch ({torch.__version__}) is built without it; install one for this GPU (docs/operations.md)"
    if not _has_card():
        return "no NVIDIA GPU is plugged in"
    if missing := [str(node) for node in _NODES if not node.exists()]:
        return f"its driver has not made {' and '.join(missing)} (nvidia-smi, modprobe nvidia-uvm)"
    return "its driver does not answer torch (nvidia-smi says more; it may be older than this torch asks for)"


def _require_index(device: torch.device) -> None:
    if device.index is not None and device.index >= (count := torch.cuda.device_count()):
        raise ModelUnavailable(
            f"[model] device is {str(device)!r}, and there are {count} GPUs: cuda:0 … cuda:{count - 1}"
        )


def _require_kernels(device: torch.device) -> None:
    """That this torch is built for the card: its own architecture, an older one of the same generation, or PTX."""
    if torch.version.hip is not None:
        return
    major, minor = torch.cuda.get_device_capability(device)
    built = torch.cuda.get_arch_list()
    if built and not any(_runs(each, major, minor) for each in built):
        raise ModelUnavailable(
            f"{torch.cuda.get_device_name(device)} is of compute capability {major}.{minor}, and this torch "
            f"({torch.__version__}) is built for {', '.join(built)}: install one that is built for it, with "
            'TORCH_INDEX_URL (docs/operations.md); or write [model] device = "cpu"'
        )


def _runs(architecture: str, major: int, minor: int) -> bool:
    kind, _, number = architecture.rstrip("af").partition("_")
    if not number.isdigit():
        return True
    built_major, built_minor = divmod(int(number), 10)
    if kind == "compute":  # PTX is compiled for newer cards
        return (built_major, built_minor) <= (major, minor)
    return built_major == major and built_minor <= minor
