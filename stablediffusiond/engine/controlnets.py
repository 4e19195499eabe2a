"""ControlNets: found in a folder by their names, opened for the model that there is, and the pipelines that ask them.

A ControlNet is a network beside the denoiser that looks at a picture. It is held like the others, so that images with
the same one ask it together. Source: Zhang et al., https://arxiv.org/abs/2302.05543
"""

import inspect
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from diffusers import ControlNetModel
from safetensors.torch import load_file

from stablediffusiond.engine.checkpoints import header as headers
from stablediffusiond.engine.checkpoints.other_kinds import kind_of
from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.device_errors import first_line, unreadable
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.engine.tasks import with_more
from stablediffusiond.errors import InvalidRequest, ModelAway, ModelError, ModelUnavailable
from stablediffusiond.messages.controls import ControlUse
from stablediffusiond.messages.request import JobType

#: What diffusers puts between the family and "Pipeline" in the names of classes.
_INFIXES: Final[dict[JobType, tuple[str, ...]]] = {
    "txt2img": ("ControlNet",),
    "img2img": ("ControlNetImg2Img",),
    "inpaint": ("ControlNetInpaint", "ControlNetInpainting"),
}
#: What it has in common with the denoiser that it was made for.
_ALIKE: Final = ("cross_attention_dim", "addition_embed_type", "in_channels", "joint_attention_dim")
_ORIGINAL: Final = "control_model."
_OF_DIFFUSERS: Final = "controlnet_cond_embedding."


class ControlNets:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``.

    In ``built_in`` are those that came with the model.
    """

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int, built_in: Path | None = None) -> None:
        self._pipeline = pipeline
        self._files = NamedFiles("ControlNet", "control", "[folders] controlnets", folder, built_in=built_in)
        self._kept = self._files.kept(self._open, _bytes_of, most_bytes)

    def read(self, uses: Sequence[ControlUse]) -> tuple[Any, ...]:
        """The networks for ``uses``; files are read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such ControlNet, or it is not for this model.
            ModelError: a file cannot be read.
        """
        return self._kept.get([use.model for use in uses])

    def names(self) -> list[str]:
        return self._files.names()

    def _open(self, path: Path) -> Any:
        denoiser = denoiser_of(self._pipeline)
        try:
            network = _from_folder(path) if path.is_dir() else _from_file(path, denoiser)
        except (InvalidRequest, ModelError):
            raise
        except (ModelUnavailable, ModelAway, OSError) as error:
            raise unreadable("ControlNet", path, error) from error
        except Exception as error:  # diffusers raises anything for weights of another family
            raise InvalidRequest(_mismatch(path.stem, self._pipeline, first_line(error)), field="control") from error
        for name in _ALIKE:
            own, asked = network.config.get(name), denoiser.config.get(name)
            if own != asked:
                said = f"its {name} is {own}, and that of the model {asked}"
                raise InvalidRequest(_mismatch(path.stem, self._pipeline, said), field="control")
        network.to(device_of(self._pipeline), denoiser.dtype).eval().requires_grad_(requires_grad=False)
        hold(network)
        return network


def controlled(pipeline: Pipeline, task: JobType, networks: Sequence[Any]) -> Pipeline:
    """diffusers' pipeline for ``task`` with ControlNets, over the same networks as ``pipeline``.

    Raises:
        InvalidRequest: it has none for this model.
    """
    stem = type(pipeline).__name__.removesuffix("Pipeline").removesuffix("Inpaint").removesuffix("Img2Img")
    names = [f"{stem}{infix}Pipeline" for infix in _INFIXES.get(task, ())]
    kind = next((found for name in names if (found := getattr(diffusers, name, None)) is not None), None)
    if kind is None:
        said = f"this model, of {type(pipeline).__name__}, takes no ControlNets for {task}"
        raise InvalidRequest(said, field="control")
    made = with_more(kind, pipeline, controlnet=networks[0] if len(networks) == 1 else list(networks))
    made.set_progress_bar_config(disable=True)
    return made


def arguments_of(pipeline: Pipeline, uses: Sequence[ControlUse], images: Sequence[Any]) -> dict[str, object]:
    """What the ControlNets of ``pipeline`` are told beside its other arguments."""
    taken = inspect.signature(type(pipeline).__call__).parameters
    several = len(uses) > 1

    def each(values: list[Any]) -> Any:
        return values if several else values[0]

    given = {
        "control_image" if "control_image" in taken else "image": each(list(images)),
        "controlnet_conditioning_scale": each([use.scale for use in uses]),
        "control_guidance_start": each([use.start for use in uses]),
        "control_guidance_end": each([use.end for use in uses]),
    }
    return {name: value for name, value in given.items() if name in taken}


def _from_folder(path: Path) -> Any:
    config = json.loads((path / "config.json").read_text("utf-8"))
    kind = getattr(diffusers, str(config.get("_class_name")), None)
    if kind is None or "ControlNet" not in kind.__name__:
        said = f"a {config.get('_class_name')}, and no ControlNet"
        raise InvalidRequest(f"{path.name!r} in the folder of ControlNets is {said}", field="control")
    return kind.from_pretrained(path, local_files_only=True)


def _from_file(path: Path, denoiser: Any) -> Any:
    """A single file: its network has the shape of the model that there is, or it is for another one."""
    header = headers.read(path)
    original = header.has(_ORIGINAL) or header.has("input_hint_block.")
    if not original and not header.has(_OF_DIFFUSERS):
        raise InvalidRequest(f"{path.stem!r} in the folder of ControlNets {kind_of(header)}", field="control")
    made = ControlNetModel.from_unet(denoiser, load_weights_from_unet=False)
    if not original:
        made.load_state_dict({name: tensor.to(made.dtype) for name, tensor in load_file(path).items()})
        return made
    with tempfile.TemporaryDirectory() as folder:
        made.save_config(folder)
        return ControlNetModel.from_single_file(str(path), config=folder, local_files_only=True)


def _bytes_of(network: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())


def _mismatch(name: str, pipeline: Pipeline, detail: str) -> str:
    return f"the ControlNet {name!r} does not fit this model, of {type(pipeline).__name__}: {detail}"
