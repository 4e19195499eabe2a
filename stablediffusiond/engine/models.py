"""Loading the model: from the package, a folder, a file or a hub, onto the device that there is."""

import getpass
import inspect
import logging
import os
import stat
from pathlib import Path
from typing import Any, Final, Literal

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from stablediffusiond import sandbox
from stablediffusiond.engine.model_defaults import defaults_of
from stablediffusiond.engine.networks import Pipeline, modules_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.settings import CompileMode, ModelSettings

log = logging.getLogger(__name__)

BUILT_IN: Final = Path(__file__).parents[1] / "doodle"
_DTYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PICKLED: Final = (".ckpt", ".bin", ".pt", ".pth")
#: Arguments of pipelines whose output are videos or sounds.
_NOT_PICTURES: Final = frozenset({"num_frames", "video_length", "audio_length_in_s", "audio_end_in_s"})


def load_pipeline(settings: ModelSettings) -> Pipeline:
    """The pipeline that ``settings`` name, on its device, ready to be driven step by step.

    Raises:
        ModelUnavailable: it is not there, is broken, is of a kind that is not driven, or does not fit the device.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    device = choose_device(settings.device)
    dtype = _choose_dtype(settings.dtype, device)
    try:
        pipeline = _open(settings.name, dtype, allow_pickle=settings.allow_pickle)
        _refuse_foreign(pipeline, settings.name)
        pipeline.to(device)
    except ModelUnavailable:
        raise
    except Exception as error:  # diffusers, transformers, the hub and torch raise anything here
        raise ModelUnavailable(f"model {settings.name!r} cannot be loaded: {_first_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    at_its_fastest(pipeline)
    return pipeline


def load(model: ModelSettings, compile_mode: CompileMode = "off") -> PipelineDenoiser:
    """The denoiser for the model that the settings name, warm: its first job is no slower than its second.

    Raises:
        ModelUnavailable: the model cannot be loaded.
    """
    pipeline = load_pipeline(model)
    defaults = defaults_of(pipeline, model.name, model.steps, model.guidance_scale)
    denoiser = PipelineDenoiser(pipeline, model.name, defaults, compile_mode)
    denoiser.warm_up()
    return denoiser


def at_its_fastest(pipeline: Pipeline) -> None:
    """Lay the weights out as a GPU's convolutions want them; a CPU's do not care."""
    if pipeline.device.type == "cuda":
        for network in modules_of(pipeline):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs leave it out


def _refuse_foreign(pipeline: Pipeline, name: str) -> None:
    takes = inspect.signature(type(pipeline).__call__).parameters
    kind = type(pipeline).__name__
    if "prompt" not in takes or (other := _NOT_PICTURES & takes.keys()):
        why = "takes no prompt" if "prompt" not in takes else f"makes something else than pictures ({', '.join(other)})"
        raise ModelUnavailable(f"model {name!r} is a {kind}, which {why}; text-to-image models can be served")


def choose_device(name: str) -> torch.device:
    """The device ``name``; for ``auto`` the best that there is."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable(f'[model] device is {name!r}, and there is no CUDA here; write "auto" or "cpu"')
    return torch.device(name)


def _choose_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


def _open(name: str, dtype: torch.dtype, *, allow_pickle: bool) -> Any:
    options: dict[str, Any] = {"dtype": dtype, "safety_checker": None, "requires_safety_checker": False}
    if name == "doodle":
        return StableDiffusionPipeline.from_pretrained(BUILT_IN, **options)
    path = Path(name).expanduser()
    if name.endswith((".safetensors", *_PICKLED)):
        _require(path, "file", name)
        if path.suffix in _PICKLED and not allow_pickle:
            raise _refusal(name, path)
        return StableDiffusionPipeline.from_single_file(str(path), **options)
    if name.startswith(("/", "./", "../", "~")):
        _require(path, "folder", name)
    if not allow_pickle:
        if pickles := _only_weights(path):
            raise _refusal(name, pickles[0])
        options["use_safetensors"] = True  # of a hub's files, too
    return DiffusionPipeline.from_pretrained(str(path) if name.startswith("~") else name, **options)


def _require(path: Path, kind: Literal["file", "folder"], name: str) -> None:
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
        raise ModelUnavailable(f"model {name!r}: {sandbox.hides(path) or said}")


def _only_weights(folder: Path) -> list[Path]:
    """The pickles in ``folder`` that have no safetensors beside them, which would be opened in their place."""
    found = sorted(file for file in folder.rglob("*") if file.suffix in _PICKLED)
    return [file for file in found if not any(file.parent.glob("*.safetensors"))]


def _refusal(name: str, pickled: Path) -> ModelUnavailable:
    return ModelUnavailable(
        f"model {name!r}: {pickled.name} is a pickle, and can run code when it is opened; convert it to "
        "safetensors, or write [model] allow_pickle = true if you trust who made it"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
