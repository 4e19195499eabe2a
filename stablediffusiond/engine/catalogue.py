"""The models that requests may name: that of the settings, those beside it, and the files in a folder of models."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stablediffusiond.errors import UnknownModel
from stablediffusiond.messages.names import name_key
from stablediffusiond.messages.values import shown
from stablediffusiond.settings import ModelSettings, Settings

_FILES: Final = (".safetensors", ".gguf")
#: What makes a folder a model in the layout of diffusers.
_INDEX: Final = "model_index.json"
#: What models of the folder have of ``[model]``: where and how they are drawn with, and nothing of that model itself.
_SHARED: Final = ("device", "dtype", "quantize", "offload", "attention", "vae_tiling", "allow_pickle")


class Catalogue:
    """Names are told apart without regard to case, suffix, folder and A1111's hash."""

    def __init__(self, settings: Settings) -> None:
        self._model = settings.model
        #: What is drawn with where a request names no model.
        self.default: str = settings.model.name
        self.look_again(settings)

    def look_again(self, settings: Settings | None = None) -> None:
        """Files may have come into the folder, or be gone from it; ``settings`` may have other models and folders."""
        if settings is not None:
            self._models = settings.models
            self._folder = settings.folders.models
        shared = {name: getattr(self._model, name) for name in _SHARED}
        of_folder = {
            name: ModelSettings(name=str(path), **shared)
            for name, path in sorted(_paths(self._folder).items(), key=_by_name)
        }
        named = {name: each.model_copy(update={"device": self._model.device}) for name, each in self._models.items()}
        #: Those of each model by its name, the default first.
        self.settings: Mapping[str, ModelSettings] = {self.default: self._model} | {
            name: each for name, each in {**of_folder, **named}.items() if name != self.default
        }
        self.names: list[str] = list(self.settings)

    def find(self, asked: str | None) -> str:
        """The name of the model that ``asked`` means; None, or nothing, is the default.

        For one that is not known yet the folder is looked into once more: whoever copies a file there may ask for it.

        Raises:
            UnknownModel: there is none; it says which is the nearest.
        """
        if not asked:
            return self.default
        if (name := self._known(asked)) is not None:
            return name
        self.look_again()
        if (name := self._known(asked)) is not None:
            return name
        raise UnknownModel(f"no model {shown(asked)} here{_nearest(asked, self.names)}", asked)

    def _known(self, asked: str) -> str | None:
        for name in self.names:
            if asked == name or name_key(asked) in {name_key(name), name.casefold()}:
                return name
        return None


def _by_name(named: tuple[str, Path]) -> str:
    return named[0].casefold()


def _nearest(asked: str, known: list[str]) -> str:
    if len(known) == 1:
        return f"; this service draws with {known[0]!r}"
    by_key: Mapping[str, str] = {name_key(name): name for name in known}
    near = difflib.get_close_matches(name_key(asked), by_key, n=1, cutoff=0.4)
    said = f"; did you mean {by_key[near[0]]!r}?" if near else ""
    return f"{said} This service has {len(known)} models" if said else f"; this service has {', '.join(known[:10])}"


def _paths(folder: Path | None) -> dict[str, Path]:
    if folder is None or not folder.is_dir():
        return {}
    folders = {path.parent for path in folder.rglob(_INDEX)}
    files = (
        path
        for path in folder.rglob("*")
        if path.suffix in _FILES and path.is_file() and not folders & set(path.parents)
    )
    return {path.name: path for path in sorted(folders)} | {path.stem: path for path in sorted(files)}
