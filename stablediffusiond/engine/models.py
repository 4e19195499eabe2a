"""Loading the model: found, opened, and brought onto the device that there is."""

import inspect
import logging
from typing import Final

import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from stablediffusiond import samplers
from stablediffusiond.engine import attention, quantization, schedulers
from stablediffusiond.engine.beside_model import beside_model
from stablediffusiond.engine.checkpoints import source
from stablediffusiond.engine.checkpoints.header import PASSING
from stablediffusiond.engine.decoding import decode_as_asked
from stablediffusiond.engine.device_choice import Device, choose_device, choose_dtype
from stablediffusiond.engine.device_errors import first_line
from stablediffusiond.engine.loras.fusing import fuse
from stablediffusiond.engine.malloc import keep_freed_memory
from stablediffusiond.engine.memory_saving import device_of, place
from stablediffusiond.engine.model_defaults import defaults_of
from stablediffusiond.engine.networks import Pipeline, lay_out_for_gpus, modules_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.refiner import Refiner
from stablediffusiond.engine.vae_tiling import is_tiled, tile
from stablediffusiond.errors import DeviceAway, InvalidRequest, JobError, ModelAway, ModelUnavailable, OutOfMemory
from stablediffusiond.settings import CompileMode, FolderSettings, ModelSettings

log = logging.getLogger(__name__)

#: The model that comes with the package.
BUILT_IN: Final = source.BUILT_IN
_VERBS: Final = ("is ", "has ", "cannot ", "predicts ")


def load_pipeline(settings: ModelSettings, device: Device | None = None) -> Pipeline:
    """The pipeline that ``settings`` name, on its device, ready to be driven step by step.

    Raises:
        ModelUnavailable: it is not there, is broken, is of a kind that is not driven, or does not fit the device.
        ModelAway, DeviceAway: it, or its device, may be there later.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    chosen = (device or choose_device(settings.device)).torch
    try:
        quantization.check(settings)
        found = source.find(settings)
        pipeline = found.open(choose_dtype(settings.dtype, chosen, found.networks))
        _set_scheduler(pipeline, settings)
        decode_as_asked(pipeline)
        tile(pipeline, settings.vae_tiling)
        place(pipeline, chosen, settings)
        attention.set_backend(pipeline, settings.attention, chosen)
    except ModelUnavailable as error:
        raise ModelUnavailable(_of(settings.name, error)) from None
    except ModelAway as error:
        raise ModelAway(_of(settings.name, error)) from None
    except Exception as error:  # diffusers, transformers and torch raise anything here
        raise _said(error, settings.name) from error
    pipeline.set_progress_bar_config(disable=True)
    at_its_fastest(pipeline)
    return pipeline


def load(
    model: ModelSettings,
    compile_mode: CompileMode = "off",
    folders: FolderSettings | None = None,
    *,
    called: str | None = None,
) -> PipelineDenoiser:
    """The denoiser for the model that the settings name, warm: its first job is no slower than its second.

    ``called`` is what requests call it, if that is another name.

    Raises:
        ModelUnavailable: the model cannot be loaded, or does not draw.
        ModelAway, DeviceAway: it cannot be now.
    """
    device = choose_device(model.device)
    if device.torch.type == "cpu":
        keep_freed_memory()
    pipeline = load_pipeline(model, device)
    fuse(pipeline, model, folders or FolderSettings())
    try:
        defaults = defaults_of(pipeline, model.name, model.steps, model.guidance_scale)
        refiner = _load_refiner(model, device, compile_mode) if model.refiner else None
        denoiser = PipelineDenoiser(
            pipeline, called or model.name, defaults=defaults, compile_mode=compile_mode, refiner=refiner,
            folders=folders, vae_tiling=model.vae_tiling, beside=beside_model(model.name),
        )  # fmt: skip
        denoiser.shortcoming = device.shortcoming
        # Where calls are replayed as CUDA graphs, what their steps need is not to be seen.
        tiled = all(is_tiled(each) for each in denoiser.decoders) and model.vae_tiling != "off"
        denoiser.decodes_in_tiles = tiled and compile_mode != "max"
        denoiser.warm_up()
    except StopIteration:
        raise ModelUnavailable(f"model {model.name!r} has neither a UNet nor a transformer that makes steps") from None
    except OutOfMemory as error:  # which somebody else may have, and give back
        raise DeviceAway(f"model {model.name!r} has no room to draw a picture: {error}") from error
    except JobError as error:
        raise ModelUnavailable(f"model {model.name!r} does not draw: {error}") from error
    return denoiser


def _load_refiner(model: ModelSettings, device: Device, compile_mode: CompileMode) -> Refiner:
    settings = model.model_copy(update={"name": model.refiner, "refiner": None, "transformer": None})
    pipeline = load_pipeline(settings, device)
    pipelines = ModelPipelines(pipeline, defaults_of(pipeline, settings.name), compile_mode)
    takes = inspect.signature(type(pipelines.by_task.get("img2img")).__call__).parameters
    if "denoising_start" not in takes:
        kind = type(pipeline).__name__
        raise ModelUnavailable(f"model {settings.name!r} cannot refine: {kind} begins no picture late")
    return Refiner(pipelines, model.refiner_switch)


def at_its_fastest(pipeline: Pipeline) -> None:
    """Lay the weights out as a GPU's convolutions want them; a CPU's do not care."""
    if device_of(pipeline).type == "cuda":
        for network in modules_of(pipeline):
            lay_out_for_gpus(network)


def _set_scheduler(pipeline: Pipeline, settings: ModelSettings) -> None:
    if settings.scheduler is None:
        return
    try:
        pipeline.scheduler = schedulers.make(samplers.find(settings.scheduler), pipeline.scheduler)
    except InvalidRequest as error:
        raise ModelUnavailable(f"[model] scheduler: {error}") from None


def _of(name: str, error: Exception) -> str:
    """What is said of the model goes on with its name; what is said of a file of it stands beside."""
    return f"model {name!r}{' ' if str(error).startswith(_VERBS) else ': '}{error}"


def _said(error: Exception, name: str) -> ModelUnavailable | ModelAway | DeviceAway:
    reason = first_line(error)
    if isinstance(error, torch.cuda.OutOfMemoryError):
        # Somebody else may have the memory, and give it back.
        return DeviceAway(f"model {name!r} does not fit into the memory of the GPU: {reason}")
    if isinstance(error, MemoryError) or "can't allocate memory" in reason:
        return DeviceAway(f"model {name!r} does not fit into the memory of this machine: {reason}")
    if isinstance(error, OSError) and error.errno in PASSING:
        return ModelAway(f"model {name!r} cannot be read now: {reason}")
    if isinstance(error, RuntimeError) and "CUDA error" in reason:
        return DeviceAway(f"model {name!r} cannot be brought onto the GPU: {reason}")
    return ModelUnavailable(f"model {name!r} cannot be loaded: {reason}")
