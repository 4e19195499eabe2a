"""A whole model in one file, as the original programs and ComfyUI write it."""

import inspect
import logging
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor

from stablediffusiond.engine.checkpoints import components, gguf_file, header
from stablediffusiond.engine.checkpoints.components import Component, Config
from stablediffusiond.engine.checkpoints.families import VAE_PREFIXES, Edition, Family, TextEncoder
from stablediffusiond.engine.checkpoints.gguf_file import GgufWeights
from stablediffusiond.engine.checkpoints.original_config import OriginalConfig
from stablediffusiond.engine.checkpoints.prediction import PredictionType, begins_without_signal, prediction_of
from stablediffusiond.engine.checkpoints.recognition import Recognised, recognise
from stablediffusiond.engine.checkpoints.text_encoders import TextEncoderFolder
from stablediffusiond.engine.checkpoints.weights import Weights, unpickle
from stablediffusiond.errors import ModelUnavailable

log = logging.getLogger(__name__)

_UNET = "UNet2DConditionModel"
_AUTOENCODER = "AutoencoderKL"
#: Pixels of the model's own size, as a UNet counts them, where it is a larger one for predicting v.
_LARGER = 96
#: What the converter of UNets looks for.
_CONVERTED_PREFIX = "model.diffusion_model."
#: Where the noise of training begins at no signal, only these steps begin there, too.
_NO_SIGNAL = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


class SingleFile:
    """One that has been recognised; nothing of its weights has been read yet.

    Raises:
        ModelUnavailable: the file is something else.
    """

    def __init__(self, path: Path, *, pickled: bool = False) -> None:
        self._unpickled: dict[str, Tensor] | None = None
        if pickled:
            read, self._unpickled = unpickle(path)
        else:
            read = gguf_file.read(path) if path.suffix == gguf_file.SUFFIX else header.read(path)
        self.found: Recognised = recognise(read)
        self._name = path.name
        self._original = OriginalConfig(path)

    @property
    def network(self) -> str:
        """The name of the component that makes the steps."""
        return self.found.family.network[0]

    @property
    def predicts(self) -> bool:
        """Whether its network may predict noise or v; others predict a flow."""
        return self.found.family.network[1] == _UNET

    def vae_config(self) -> tuple[str, Config]:
        """The class and the config of a VAE for this model."""
        said = self._original.vae() if self.predicts else {}
        return _AUTOENCODER, {**components.config_of(self.found.family.vae), **said}

    def open(
        self,
        dtype: torch.dtype,
        *,
        prediction_type: PredictionType | None = None,
        vae: Component | None = None,
        text_encoders: Path | None = None,
    ) -> Any:
        """The pipeline, in the host's memory; ``vae`` is one in place of the file's own.

        Raises:
            ModelUnavailable: a part is missing or broken.
        """
        family, edition = self.found.family, self.found.edition
        log.info("%s is %s%s", self._name, family.name, f", and by its name {edition.pattern}" if edition else "")
        weights = (GgufWeights if self.found.header.quantised else Weights)(self.found.header, dtype, self._unpickled)
        if not self.predicts and prediction_type:
            raise ModelUnavailable(
                f"{self._name} is {family.name}, which predicts a flow: leave out [model] prediction_type"
            )
        prediction = prediction_type or prediction_of(self.found, weights, self._original.parameterization)
        try:
            made = {
                **self._text(weights, dtype, text_encoders),
                self.network: self._network(weights, dtype, prediction),
                "vae": vae or self._vae(weights, dtype),
                "scheduler": scheduler_of(family, edition, **self._noise(prediction)),
            }
        except ModelUnavailable as error:
            raise ModelUnavailable(f"{self._name}: {error}") from None
        return _assemble((edition and edition.pipeline) or family.pipeline, {**made, **family.options})

    def _network(self, weights: Weights, dtype: torch.dtype, prediction: PredictionType) -> Component:
        family = self.found.family
        name, architecture, folder = family.network
        config = {**components.config_of(folder), **family.network_options}
        if family.velocity is not None and prediction == "v_prediction":
            config["sample_size"] = _LARGER
        if self.predicts:
            config |= self._original.network()
        prefix = _CONVERTED_PREFIX if self.predicts else ""
        read = weights.network(self.found.prefix, as_prefix=prefix)
        return components.diffusers_component(name, architecture, config, read, dtype)

    def _noise(self, prediction: PredictionType) -> Config:
        said: Config = {"prediction_type": prediction} if self.predicts else {}
        return said | (_NO_SIGNAL if begins_without_signal(self.found) else {})

    def _vae(self, weights: Weights, dtype: torch.dtype) -> Component:
        prefix = next((each for each in VAE_PREFIXES if self.found.header.has(each)), None)
        if prefix is None:
            raise ModelUnavailable("has no VAE in it: write [model] vae =, the file or folder of one for such models")
        architecture, config = self.vae_config()
        return components.diffusers_component("VAE", architecture, config, weights.below(prefix, as_prefix=""), dtype)

    def _text(self, weights: Weights, dtype: torch.dtype, folder: Path | None) -> dict[str, Component]:
        outside = TextEncoderFolder(folder, self.found.family.name)
        made: dict[str, Component] = {}
        for each in self.found.family.text_encoders:
            if self.found.header.has(each.prefix):
                encoder = self._own_encoder(each, weights, dtype)
            else:
                encoder = outside.encoder(each, dtype)
            if encoder is None:
                log.warning(
                    "%s: %s (%s) is not in it: prompts are read without; [model] text_encoders can name a folder of it",
                    self._name, each.component, each.kind,
                )  # fmt: skip
            made[each.component] = encoder
            made[each.tokenizer] = None if encoder is None else outside.tokenizer(each)
        return made

    @staticmethod
    def _own_encoder(each: TextEncoder, weights: Weights, dtype: torch.dtype) -> Component:
        read, config = weights.below(each.prefix, as_prefix=""), components.config_of(each.kind)
        name = f"text encoder ({each.kind})"
        return components.text_encoder(name, each.architecture, config, read, dtype, unprojected=each.unprojected)


def scheduler_of(family: Family, edition: Edition | None, **said: object) -> Any:
    """The scheduler that a file's family, and its edition, are run with; what is ``said`` goes before."""
    config = components.config_of(family.scheduler)
    name = (edition and edition.scheduler) or config["_class_name"]
    more = edition.scheduler_options if edition else {}
    return getattr(diffusers, name).from_config({**config, **more, **said})


def _assemble(name: str, parts: dict[str, Any]) -> Any:
    """The pipeline ``name``; of what it asks for and the file does not have, there is none."""
    of_class = getattr(diffusers, name)
    taken = inspect.signature(of_class.__init__).parameters
    absent = {each: None for each, facts in taken.items() if facts.default is facts.empty and each != "self"}
    given = {**absent, "requires_safety_checker": False, **parts}
    return of_class(**{each: value for each, value in given.items() if each in taken})
