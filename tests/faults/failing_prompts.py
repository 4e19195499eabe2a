"""Prompts that the device fails for: the fake denoiser all of them, the real one three at the failpoint ``device_fails``."""

from typing import Final

POISON: Final = "poison"  #: ends the process of the daemon that begins it
HANGING: Final = "hanging"  #: at the failpoint ``device_hangs``
OUT_OF_MEMORY: Final = "too much for memory"
NOT_A_NUMBER: Final = "not a number"
UNDECODABLE: Final = "undecodable"
OF_THE_DEVICE: Final = (OUT_OF_MEMORY, NOT_A_NUMBER, UNDECODABLE)
