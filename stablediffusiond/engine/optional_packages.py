"""Packages that only some settings and files need: an error says how to get them."""

import importlib
import sys
from importlib import metadata
from typing import Any, Final

from packaging.version import Version

from stablediffusiond.engine.device_errors import first_line
from stablediffusiond.errors import ModelUnavailable

#: The least versions: those that diffusers asks for, and of bitsandbytes one that computes on a CPU, too.
_LEAST: Final = {"torchao": "0.15", "bitsandbytes": "0.46", "gguf": "0.10", "spandrel": "0.4"}

#: Without what they ask for: torchvision, of which no build for CPUs is where pip looks, and which would not be used.
_ALONE: Final = frozenset({"spandrel"})


def module_of(package: str, wanted_by: str) -> Any:
    """The module ``package``, for what ``wanted_by`` says.

    Raises:
        ModelUnavailable: it is not installed, too old, or does not fit what else is installed.
    """
    alone = "--no-deps " if package in _ALONE else ""
    todo = f'{sys.executable} -m pip install {alone}"{package}>={_LEAST[package]}"'
    try:
        found = Version(metadata.version(package))
        if found < Version(_LEAST[package]):
            raise ModelUnavailable(f"{wanted_by} needs a newer {package} than {found}: {todo}")
        return importlib.import_module(package)
    except metadata.PackageNotFoundError:
        raise ModelUnavailable(f"{wanted_by} needs {package}, which is not installed: {todo}") from None
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # of another torch, of another CUDA
        raise ModelUnavailable(f"{wanted_by} needs {package}, which cannot be loaded: {first_line(error)}") from None
