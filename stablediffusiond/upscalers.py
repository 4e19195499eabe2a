"""The names of the upscalers that need no file, without torch.

A1111's names: those of latents enlarge what the model works on, between its noise and the picture; the others enlarge
the picture. ``engine/upscaler_files.py`` has those that are networks, in files.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class OfLatents:
    """How PyTorch interpolates: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.interpolate.html"""

    mode: Literal["bilinear", "bicubic", "nearest", "nearest-exact"]
    antialias: bool = False


@dataclass(frozen=True)
class OfPixels:
    """A filter of Pillow, by its name there."""

    resampling: Literal["LANCZOS", "BICUBIC", "NEAREST"]


BuiltIn = OfLatents | OfPixels

BUILT_IN: Final[dict[str, BuiltIn]] = {
    "Latent": OfLatents("bilinear"),
    "Latent (antialiased)": OfLatents("bilinear", antialias=True),
    "Latent (bicubic)": OfLatents("bicubic"),
    "Latent (bicubic antialiased)": OfLatents("bicubic", antialias=True),
    "Latent (nearest)": OfLatents("nearest"),
    "Latent (nearest-exact)": OfLatents("nearest-exact"),
    "Lanczos": OfPixels("LANCZOS"),
    "Bicubic": OfPixels("BICUBIC"),
    "Nearest": OfPixels("NEAREST"),
}
NAMES: Final = tuple(BUILT_IN)
_BY_KEY: Final = {name.casefold(): name for name in NAMES}
#: What a second pass, and what an upscale, is enlarged by that names nothing.
OF_HIRES: Final = "Latent"
OF_UPSCALE: Final = "Lanczos"


def canonical(name: str) -> str:
    """``name`` as it is written here if it is one of these, in whatever case; else as it came: a file's."""
    return _BY_KEY.get(name.strip().casefold(), name.strip())
