"""GGUF files of a network: what they say at their beginning, and their weights, which stay quantised where they can.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Diffusers computes with such weights, made
whole where a layer uses them: https://huggingface.co/docs/diffusers/main/en/quantization/gguf
"""

import contextlib
import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from torch import Tensor, nn

from stablediffusiond.engine.checkpoints import header
from stablediffusiond.engine.checkpoints.header import Header, TensorFacts
from stablediffusiond.engine.checkpoints.weights import Weights
from stablediffusiond.engine.optional_packages import module_of
from stablediffusiond.errors import ModelUnavailable

SUFFIX: Final = ".gguf"
_MAGIC: Final = b"GGUF"
#: Types whose tensors are numbers.
_PLAIN: Final = frozenset({"F32", "F16"})
#: What ComfyUI's converter notes of tensors whose rows it had to make longer.
_SHAPE: Final = "comfy.gguf.orig_shape."
_KIND: Final = "general.architecture"


def read(path: Path) -> Header:
    """The tensors of ``path``, with their shapes as they would be without quantisation.

    Raises:
        ModelUnavailable: it is cut off, of another format, or quantised in a way that diffusers does not read.
        ModelAway: its disk does not give it now.
    """
    reader = _reader(path)
    shapes = {name.removeprefix(_SHAPE): _numbers(field) for name, field in reader.fields.items() if _SHAPE in name}
    tensors = {
        each.name: TensorFacts(each.tensor_type.name, shapes.get(each.name, tuple(reversed(each.shape.tolist()))))
        for each in reader.tensors
    }
    known = {each.name for each in _diffusers().SUPPORTED_GGUF_QUANT_TYPES} | _PLAIN
    if unknown := sorted({each.dtype for each in tensors.values()} - known):
        best = "take the same model in Q8_0, Q6_K, Q5_K, Q4_K, Q3_K or Q2_K"
        raise ModelUnavailable(
            f"{path.name} is quantised as {', '.join(unknown)}, which diffusers does not read; {best}"
        )
    kind = reader.fields.get(_KIND)
    return Header(path, tensors, {} if kind is None else {_KIND: str(kind.contents())}, quantised=True)


def _reader(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ModelUnavailable(f"{path} is no GGUF file{header.seen(path)}")
        # Copied when it is written to, which nobody does: torch takes no memory that may only be read.
        return module_of("gguf", "a GGUF file").GGUFReader(path, "c")
    except OSError as error:
        raise header.unreadable(path, error) from None
    except (ValueError, LookupError, OverflowError, MemoryError):  # what numpy says where its file ends
        raise ModelUnavailable(f"{path} is cut off, or no GGUF file that can be read here; fetch it again") from None


def _numbers(field: Any) -> tuple[int, ...]:
    return tuple(int(field.parts[place][0]) for place in field.data)


class GgufWeights(Weights):
    """The tensors of a GGUF file: those of the network as they are, all others whole."""

    def below(self, prefix: str, *, as_prefix: str | None = None) -> dict[str, Tensor]:
        """All tensors whose names begin with ``prefix``, which is written ``as_prefix``."""
        written = prefix if as_prefix is None else as_prefix
        return {
            name: whole(tensor, self._header.shape(prefix + name[len(written) :]), self._dtype)
            for name, tensor in super().below(prefix, as_prefix=as_prefix).items()
        }

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Callable[[str], Tensor]]:
        tensors = {each.name: each for each in _reader(self._header.path).tensors}

        def tensor(name: str) -> Tensor:
            data, kind = torch.from_numpy(tensors[name].data), tensors[name].tensor_type
            made: Tensor = data if kind.name in _PLAIN else _diffusers().GGUFParameter(data, quant_type=kind)
            return made

        yield tensor


def is_quantised(tensor: Tensor) -> bool:
    return hasattr(tensor, "quant_type")


def shape_of(tensor: Tensor) -> tuple[int, ...]:
    """That which it would have without quantisation."""
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def whole(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """``tensor`` without quantisation."""
    made: Tensor = _diffusers().dequantize_gguf_tensor(tensor)
    return made.reshape(shape).to(dtype)


def component(
    architecture: str, config: Mapping[str, Any], empty: nn.Module, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> Any:
    """A network of the class ``architecture``, in whose linear layers weights are quantised; ``empty`` is one without.

    ``weights`` have the names of diffusers.
    """
    linear = {f"{name}.weight" for name, layer in empty.named_modules() if isinstance(layer, nn.Linear)}
    given = {
        name: tensor if name in linear and is_quantised(tensor) else whole(tensor, tuple(wanted.shape), dtype)
        for name, wanted in empty.state_dict().items()
        for tensor in (weights[name],)
    }
    quantised = diffusers.GGUFQuantizationConfig(compute_dtype=dtype)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(dict(config)), "utf-8")
        made = getattr(diffusers, architecture).from_single_file(
            given, config=folder, quantization_config=quantised, dtype=dtype
        )
    made.requires_grad_(False)  # noqa: FBT003
    return made


def _diffusers() -> Any:
    """That part of diffusers which cannot be imported without the package gguf."""
    module_of("gguf", "a GGUF file")
    return importlib.import_module("diffusers.quantizers.gguf.utils")
