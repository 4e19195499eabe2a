"""What ``[model] name`` names: recognised and found to be whole, before gigabytes of it are read."""

import getpass
import os
import stat
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import torch

from stablediffusiond import sandbox
from stablediffusiond.engine.checkpoints import gguf_file, hub, vae
from stablediffusiond.engine.checkpoints.components import Component
from stablediffusiond.engine.checkpoints.denoiser_file import DenoiserFile
from stablediffusiond.engine.checkpoints.folder import PICKLED, Folder, refusal
from stablediffusiond.engine.checkpoints.single_file import SingleFile
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.settings import ModelSettings

BUILT_IN_NAME: Final = "doodle"
BUILT_IN: Final = Path(__file__).parents[2] / "doodle"
_FILES: Final = (".safetensors", gguf_file.SUFFIX, *PICKLED)


class Source(Protocol):
    """A model that can be opened."""

    @property
    def networks(self) -> frozenset[str]:
        """The names of its components."""

    def open(self, dtype: torch.dtype) -> Any:
        """The pipeline, in the host's memory."""


def find(settings: ModelSettings) -> Source:
    """The model that the settings name.

    Raises:
        ModelUnavailable: it is not there, is broken, or of a kind that is not served.
        ModelAway: it may be there later.
    """
    name, pickles = settings.name, settings.allow_pickle
    if name == BUILT_IN_NAME:
        return _InFolder(BUILT_IN, settings)
    path = Path(name).expanduser()
    if path.suffix in _FILES:
        _require(path, "file")
        if path.suffix in PICKLED and not pickles:
            raise ModelUnavailable(refusal(path.name))
        if settings.transformer is not None:
            raise ModelUnavailable(
                "is a single file: [model] transformer goes with a folder or a hub id; write the transformer's file "
                "alone as [model] name, or name the folder there"
            )
        return _InFile(path, settings)
    if name.startswith(("/", "./", "../", "~")) or path.is_dir():
        _require(path, "folder")
        return _InFolder(path, settings)
    folder = hub.snapshot(name, allow_pickle=pickles, with_denoiser=settings.transformer is None)
    return _InFolder(folder, settings)


class _InFolder:
    def __init__(self, path: Path, settings: ModelSettings) -> None:
        self._settings = settings
        given = settings.transformer
        self._folder = Folder(path, allow_pickle=settings.allow_pickle, with_denoiser=given is None)
        self._denoiser = None if given is None else _denoiser(given.expanduser(), self._folder)

    @property
    def networks(self) -> frozenset[str]:
        return self._folder.networks

    def open(self, dtype: torch.dtype) -> Any:
        instead = {} if self._denoiser is None else {self._folder.denoiser[0]: self._denoiser.open(dtype)}
        pipeline = self._folder.open(dtype, **instead)
        if self._settings.vae is not None:
            own = pipeline.vae
            pipeline.vae = _vae(self._settings, type(own).__name__, dict(own.config), dtype)
        if (predicts := self._settings.prediction_type) is not None:
            if "prediction_type" not in pipeline.scheduler.config:
                raise ModelUnavailable("predicts a flow: leave out [model] prediction_type")
            own = pipeline.scheduler
            pipeline.scheduler = type(own).from_config({**own.config, "prediction_type": predicts})
        return pipeline


class _InFile:
    def __init__(self, path: Path, settings: ModelSettings) -> None:
        self._settings = settings
        self._file = SingleFile(path, pickled=path.suffix in PICKLED)

    @property
    def networks(self) -> frozenset[str]:
        return frozenset({self._file.network})

    def open(self, dtype: torch.dtype) -> Any:
        settings = self._settings
        other = None if settings.vae is None else _vae(settings, *self._file.vae_config(), dtype)
        folder = None if settings.text_encoders is None else settings.text_encoders.expanduser()
        return self._file.open(dtype, prediction_type=settings.prediction_type, vae=other, text_encoders=folder)


def _denoiser(file: Path, folder: Folder) -> DenoiserFile:
    if file.suffix not in _FILES or file.suffix in PICKLED:
        raise ModelUnavailable(f"[model] transformer: {file.name} is neither a .gguf nor a .safetensors file")
    _require(file, "file")
    return DenoiserFile(file, folder.denoiser[1], folder.denoiser_config())


def _vae(settings: ModelSettings, architecture: str, config: dict[str, Any], dtype: torch.dtype) -> Component:
    name = settings.vae or ""
    path = Path(name).expanduser()
    if path.suffix == ".safetensors":
        _require(path, "file")
    elif path.suffix in _FILES:
        raise ModelUnavailable(f"[model] vae: {path.name} is no safetensors file")
    elif name.startswith(("/", "./", "../", "~")) or path.is_dir():
        _require(path, "folder")
    else:
        path = hub.component_snapshot(name)
    try:
        if path.suffix == ".safetensors":
            return vae.from_file(path, architecture, config, dtype)
        return vae.from_folder(path, dtype)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"[model] vae: {error}") from None


def _require(path: Path, kind: Literal["file", "folder"]) -> None:
    """That there is a ``kind`` at ``path``, and that we may read it."""
    try:
        found = stat.S_ISDIR(path.stat().st_mode) == (kind == "folder")
        readable = os.access(path, os.R_OK)
    except PermissionError:
        found, readable = True, False
    except OSError:
        found, readable = False, False
    if not (found and readable):
        said = f"the user {getpass.getuser()} may not read it" if found else f"no such {kind}"
        raise ModelUnavailable(f"{path}: {sandbox.hides(path) or said}")
