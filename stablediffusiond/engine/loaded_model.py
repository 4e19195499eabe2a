"""A model that can be drawn with, and how much of it at a time."""

from dataclasses import dataclass

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.device import MovableDenoiser


@dataclass(frozen=True)
class LoadedModel:
    denoiser: MovableDenoiser
    capacity: Capacity
    nbytes: int = 0  #: of its weights, on the device
