"""An IP-Adapter's file: checked by its header, then made into diffusers' own layers by diffusers' own converters.

It holds two matrices for each cross attention of the network, which make keys and values of a picture as there are
some of the text, and a small network that makes them out of what an image encoder sees.
Source: Ye et al., https://arxiv.org/abs/2308.06721
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from safetensors.torch import load_file
from torch import Tensor, nn

from stablediffusiond.engine.checkpoints import header as headers
from stablediffusiond.engine.checkpoints.families import name_by_text_width
from stablediffusiond.engine.checkpoints.header import Header
from stablediffusiond.engine.checkpoints.other_kinds import kind_of
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.errors import InvalidRequest

FIELD: Final = "ip_adapter"
_PROJECTION: Final = "image_proj."
_ATTENTION: Final = "ip_adapter."
_PROCESSOR: Final = ".processor"
#: Tensors of those that look at faces, by numbers that another network finds; plain ones have the first, too.
_OF_FACES: Final = ("image_proj.norm.weight", "image_proj.perceiver_resampler.proj_in.weight")

#: What of an image encoder is looked at, as its config calls the size of it.
Seen = Literal["projection_dim", "hidden_size"]
#: The first tensor that is there says which that is; its second dimension is the size.
_LOOKS_AT: Final[tuple[tuple[str, Seen], ...]] = (
    ("image_proj.proj.weight", "projection_dim"),
    ("image_proj.proj.0.weight", "hidden_size"),
    ("image_proj.proj_in.weight", "hidden_size"),
)


@dataclass(frozen=True, eq=False)
class IpAdapter:
    """One, for the network of one model."""

    path: Path
    layers: Mapping[nn.Module, IPAdapterAttnProcessor2_0]  #: cross attention -> what has its two matrices
    projection: nn.Module
    looks_at: Seen
    width: int  #: the size of that

    @property
    def nbytes(self) -> int:
        parts = (self.projection, *self.layers.values())
        return sum(parameter.nbytes for part in parts for parameter in part.parameters())


def read(path: Path, pipeline: Pipeline) -> IpAdapter:
    """The IP-Adapter in ``path``, for the model of ``pipeline``.

    Raises:
        InvalidRequest: there is none in it, or it is not for this model.
        ModelUnavailable, ModelAway, OSError: it cannot be read.
    """
    network, header = denoiser_of(pipeline), headers.read(path)
    name, looks_at = path.stem, _check(header)
    processors = _processors_for(header, network, name, type(pipeline).__name__)
    tensors = load_file(path)
    try:
        made, projection = _converted(network, tensors, device_of(pipeline))
    except Exception as error:  # diffusers and torch raise anything for tensors that they do not expect
        raise InvalidRequest(f"the IP-Adapter {name!r} is of a kind that is not known here", field=FIELD) from error
    layers = {network.get_submodule(each.removesuffix(_PROCESSOR)): made[each] for each in processors}
    return IpAdapter(path, layers, projection, *looks_at)


def _converted(network: Any, tensors: Mapping[str, Tensor], device: torch.device) -> tuple[dict[str, Any], nn.Module]:
    """What diffusers makes for ``network`` out of a file: its processors by their names, and the projection."""
    parts = {
        prefix.rstrip("."): {key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)}
        for prefix in (_PROJECTION, _ATTENTION)
    }
    made = network._convert_ip_adapter_attn_to_diffusers([parts])  # noqa: SLF001 (diffusers has no other way)
    projection = network._convert_ip_adapter_image_proj_to_diffusers(parts["image_proj"])  # noqa: SLF001 (as above)
    for part in (projection, *(each for each in made.values() if isinstance(each, nn.Module))):
        part.to(device, network.dtype).eval().requires_grad_(requires_grad=False)
    return made, projection


def _check(header: Header) -> tuple[Seen, int]:
    """What it looks at. Raises InvalidRequest for what is no IP-Adapter, or none that can be used here."""
    name = header.path.stem
    if not header.has(_PROJECTION) or not header.has(_ATTENTION):
        raise InvalidRequest(f"{name!r} in the folder of IP-Adapters {kind_of(header)}", field=FIELD)
    if _LOOKS_AT[0][0] not in header and any(tensor in header for tensor in _OF_FACES):
        said = "is one of faces (FaceID), whose numbers nothing here finds in a picture"
        raise InvalidRequest(f"the IP-Adapter {name!r} {said}", field=FIELD)
    for tensor, seen in _LOOKS_AT:
        if len(shape := header.shape(tensor)) == 2:
            return seen, shape[1]
    raise InvalidRequest(f"the IP-Adapter {name!r} is of a kind that is not known here", field=FIELD)


def _processors_for(header: Header, network: Any, name: str, model: str) -> list[str]:
    """The processors of ``network``'s cross attentions, each of which has its matrices in the file."""
    cross = [each for each in network.attn_processors if not each.endswith("attn1" + _PROCESSOR)]
    own = network.config.get("cross_attention_dim")
    width = next((header.shape(each)[-1] for each in header.below(_ATTENTION) if each.endswith("to_k_ip.weight")), 0)
    if width != own:
        family = name_by_text_width(width) or "a model"
        said = f"it is for {family}, with text of {width} numbers a word, and this model's has {own}"
    elif (there := sum(each.endswith("to_k_ip.weight") for each in header.below(_ATTENTION))) != len(cross):
        said = f"it is for {there} layers, and this model has {len(cross)}"
    else:
        return cross
    raise InvalidRequest(f"the IP-Adapter {name!r} does not fit this model, of {model}: {said}", field=FIELD)


def takes_ip_adapters(network: torch.nn.Module) -> bool:
    """Whether they are added to it in this way; transformers have ways of their own."""
    return isinstance(network, UNet2DConditionModel)
