"""Prompts that hurt the device: the stand-in knows them all, the real one three of them in the phase ``device_fails``."""

from typing import Final

POISON: Final = "poison"  #: ends the process of whoever begins it
HANGING: Final = "hanging"  #: in the phase ``hung``
OUT_OF_MEMORY: Final = "too much for memory"
NOT_A_NUMBER: Final = "not a number"
UNDECODABLE: Final = "undecodable"
OF_THE_DEVICE: Final = (OUT_OF_MEMORY, NOT_A_NUMBER, UNDECODABLE)
