"""What reads prompts, where a single file lacks it: out of the folder that ``[model] text_encoders`` names.

That folder may be one of diffusers, with a folder for each component in it (``text_encoder_2/``, ``tokenizer_2/``), or
ComfyUI's, with single files; these are told apart by what they hold, not by their names.
"""

import json
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from stablediffusiond import sandbox
from stablediffusiond.engine.checkpoints import components, header
from stablediffusiond.engine.checkpoints.components import Component, Config
from stablediffusiond.engine.checkpoints.families import TextEncoder
from stablediffusiond.engine.checkpoints.header import Header
from stablediffusiond.engine.checkpoints.tokenizers import clip_tokenizer
from stablediffusiond.engine.checkpoints.weights import Weights
from stablediffusiond.errors import ModelUnavailable

#: Kind -> tensors, one of which a file of that kind has, the dimension of it that counts, and the config's name of it.
_SIGNS: Final = {
    "clip": (("text_model.embeddings.position_embedding.weight", "positional_embedding"), 1, "hidden_size"),
    "t5": (("encoder.block.0.layer.0.SelfAttention.q.weight",), 1, "d_model"),
}
_SENTENCEPIECE: Final = ("spiece.model", "tokenizer.json")


class TextEncoderFolder:
    """``folder`` is what the settings name; without one, everything is missing."""

    def __init__(self, folder: Path | None, model: str) -> None:
        self._folder = folder
        self._model = model
        if folder is not None and not folder.is_dir():
            raise ModelUnavailable(f"[model] text_encoders: {folder}: {sandbox.hides(folder) or 'no such folder'}")

    def encoder(self, wanted: TextEncoder, dtype: torch.dtype) -> Component | None:
        """The text encoder, or None where its model can do without.

        Raises:
            ModelUnavailable: it is not there, and the model cannot do without.
        """
        config = components.config_of(wanted.kind)
        if self._folder is not None:
            whole = self._folder / wanted.component
            if (whole / "config.json").is_file() and _fits(whole, config):
                return getattr(transformers, wanted.architecture).from_pretrained(str(whole), dtype=dtype).eval()
            for file in sorted(self._folder.glob("*.safetensors")):
                if _is(found := header.read(file), config):
                    weights = Weights(found, dtype).below("")
                    return components.text_encoder(
                        f"text encoder ({file.name})", wanted.architecture, config, weights, dtype,
                        unprojected=wanted.unprojected,
                    )  # fmt: skip
        if wanted.required:
            raise self._missing(wanted, wanted.component)
        return None

    def tokenizer(self, wanted: TextEncoder) -> Any:
        """The tokenizer beside it; CLIP's comes with the package.

        Raises:
            ModelUnavailable: it is not there.
        """
        if wanted.padding is not None:
            return clip_tokenizer(wanted.padding)
        for place in self._places(wanted.tokenizer):
            if any((place / name).is_file() for name in _SENTENCEPIECE):
                return transformers.AutoTokenizer.from_pretrained(str(place))
        raise self._missing(wanted, f"{wanted.tokenizer} ({' or '.join(_SENTENCEPIECE)})")

    def _places(self, name: str) -> list[Path]:
        if self._folder is None:
            return []
        return [self._folder / name, self._folder, *sorted(each for each in self._folder.glob("*") if each.is_dir())]

    def _missing(self, wanted: TextEncoder, what: str) -> ModelUnavailable:
        folder = f"{self._folder}, which [model] text_encoders names," if self._folder else "[model] text_encoders ="
        asked = (
            f"{folder} has none"
            if self._folder
            else f"write {folder} FOLDER, one with {wanted.component} and {wanted.tokenizer} as diffusers has them, or "
            f"with a file of {wanted.kind} as ComfyUI has it"
        )
        return ModelUnavailable(f"{self._model} needs {what} ({wanted.kind}), which is not in it: {asked}")


def _fits(folder: Path, config: Config) -> bool:
    """Whether the text encoder in ``folder`` is as wide as the model wants it."""
    said = json.loads((folder / "config.json").read_text("utf-8"))
    return all(said.get(key) == config[key] for _, _, key in _SIGNS.values() if key in config)


def _is(found: Header, config: Config) -> bool:
    for tensors, dimension, key in _SIGNS.values():
        shape = next((each for name in tensors if (each := found.shape(name))), ())
        if shape and key in config and shape[dimension] == config[key]:
            return True
    return False
