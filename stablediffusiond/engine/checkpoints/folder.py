"""A folder in the layout of diffusers: what of it will be loaded, looked at before anything is."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import DiffusionPipeline

from stablediffusiond.engine.checkpoints import header
from stablediffusiond.engine.checkpoints.header import unreadable
from stablediffusiond.engine.networks import DENOISERS
from stablediffusiond.errors import ModelUnavailable

INDEX: Final = "model_index.json"
PICKLED: Final = (".ckpt", ".bin", ".pt", ".pth")
#: Components that no picture needs.
LEFT_OUT: Final = frozenset({"safety_checker"})
#: Arguments of pipelines whose output are videos or sounds.
_NOT_PICTURES: Final = frozenset({"num_frames", "video_length", "audio_length_in_s", "audio_end_in_s"})
#: model.safetensors, model.fp16.safetensors, model.fp16-00001-of-00002.safetensors, model-00001-of-00002.fp16.….
_WEIGHTS: Final = re.compile(r"^[^.]+?(?:\.(\w+?))?(?:-\d+-of-\d+)?(?:\.(\w+))?\.safetensors$")


class Incomplete(ModelUnavailable):
    """Raised when a part of a model is missing, which fetching it again may bring."""


class Folder:
    """One that may be loaded.

    Raises:
        ModelUnavailable: it is no model, one of another kind, or one of which a part is a pickle.
        Incomplete: a part of it is missing.
    """

    def __init__(self, path: Path, *, allow_pickle: bool, with_denoiser: bool = True) -> None:
        """Without ``with_denoiser`` the network that makes the steps is one from elsewhere."""
        self._path = path
        self._allow_pickle = allow_pickle
        self._index = _read_index(path)
        self.pipeline = pipeline_class(self._index)
        parts = [name for name in components_of(self._index) if with_denoiser or name != self.denoiser[0]]
        files = {name: [each.name for each in sorted((path / name).glob("*"))] for name in parts}
        for name, names in files.items():
            self._check(name, names)
        self.variant = variant_of(files.values())

    @property
    def networks(self) -> frozenset[str]:
        return frozenset(components_of(self._index))

    @property
    def denoiser(self) -> tuple[str, str]:
        """The component that makes the steps, and its class.

        Raises:
            ModelUnavailable: there is none.
        """
        for name in DENOISERS:
            if name in components_of(self._index):
                return name, self._index[name][1]
        raise ModelUnavailable("has neither a transformer nor a UNet")

    def denoiser_config(self) -> dict[str, Any]:
        """What the folder says of it.

        Raises:
            Incomplete: it says nothing.
        """
        file = self._path / self.denoiser[0] / "config.json"
        if not file.is_file():
            raise Incomplete(f"{file} is missing; fetch it again")
        return _json(file)

    def open(self, dtype: torch.dtype, **instead: Any) -> Any:
        """The pipeline, in the host's memory; ``instead`` are components in place of its own."""
        taken = inspect.signature(self.pipeline.__init__).parameters
        off = {"safety_checker": None, "requires_safety_checker": False}
        options: dict[str, Any] = {name: value for name, value in off.items() if name in taken}
        if self.variant:
            options["variant"] = self.variant
        if not self._allow_pickle:
            options["use_safetensors"] = True
        return DiffusionPipeline.from_pretrained(str(self._path), dtype=dtype, **options, **instead)

    def _check(self, name: str, files: list[str]) -> None:
        folder = self._path / name
        if not files and not (self._path / "config.json").is_file():  # there a component may lie beside the index
            raise Incomplete(f"{folder} is missing, or is empty; fetch it again")
        weights = [each for each in files if each.endswith(".safetensors")]
        for each in weights:
            header.read(folder / each)
        for index in (each for each in files if each.endswith(".safetensors.index.json")):
            wanted = set(_json(folder / index).get("weight_map", {}).values())
            if missing := wanted - set(files):
                raise Incomplete(f"{folder} is not complete: {min(missing)} is missing; fetch it again")
        pickles = [each for each in files if each.endswith(PICKLED)]
        if weights or "config.json" not in files or any(each.startswith("tokenizer") for each in files):
            return
        if pickles and not self._allow_pickle:
            raise ModelUnavailable(refusal(pickles[0]))
        if not pickles:
            raise Incomplete(f"{folder} holds no weights")


def refusal(pickle: str) -> str:
    return (
        f"{pickle} is a pickle, and can run code when it is opened; convert it to safetensors, or write [model] "
        "allow_pickle = true if you trust who made it"
    )


def components_of(index: Mapping[str, Any]) -> list[str]:
    """The components that are loaded from folders of their names."""
    pairs = {name: each for name, each in index.items() if isinstance(each, list) and len(each) == 2}
    return [name for name, each in pairs.items() if isinstance(each[1], str) and name not in LEFT_OUT]


def pipeline_class(index: Mapping[str, Any]) -> Any:
    """The class of the pipeline that a model index names.

    Raises:
        ModelUnavailable: there is none, or it draws no pictures.
    """
    name = index.get("_class_name")
    found = getattr(diffusers, name, None) if isinstance(name, str) else None
    if found is None:
        raise ModelUnavailable(f"is made for {name}, which diffusers {diffusers.__version__} does not have")
    takes = inspect.signature(found.__call__).parameters
    if "prompt" not in takes:
        raise ModelUnavailable(f"is a {name}, which takes no prompt; text-to-image models can be served")
    if other := _NOT_PICTURES & takes.keys():
        what = f"makes something else than pictures ({', '.join(sorted(other))})"
        raise ModelUnavailable(f"is a {name}, which {what}; text-to-image models can be served")
    return found


def variant_of(components: Iterable[Iterable[str]]) -> str | None:
    """What stands in the names of weights of which there are none without; the same for all components.

    Raises:
        ModelUnavailable: there are several, and none that all have.
    """
    common: set[str] | None = None
    for names in components:
        matches = [found for name in names if (found := _WEIGHTS.match(name))]
        variants = {found[1] or found[2] for found in matches}
        if variants and None not in variants:
            common = variants if common is None else common & variants
    if common is None:
        return None
    if not common:
        raise ModelUnavailable("its weights come in variants of which none has all components; fetch it again")
    return "fp16" if "fp16" in common else min(common)


def _read_index(path: Path) -> dict[str, Any]:
    if (path / INDEX).is_file():
        return _json(path / INDEX)
    if singles := sorted(path.glob("*.safetensors")):
        raise ModelUnavailable(f"has no {INDEX}; if a single file is meant, name it: {singles[0]}")
    if (path / "config.json").is_file():
        raise ModelUnavailable(f"has no {INDEX}: it is one component of a model, and not a model")
    raise ModelUnavailable(f"has no {INDEX}, so it is no model in the layout of diffusers")


def _json(file: Path) -> dict[str, Any]:
    try:
        read = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise unreadable(file, error) from None
    except ValueError as error:
        raise ModelUnavailable(f"{file} is no JSON: {error}") from None
    if not isinstance(read, dict):
        raise ModelUnavailable(f"{file} is not what it should be: a JSON object")
    return read
