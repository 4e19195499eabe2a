"""VAEs that requests name: found in a folder, opened for the model that there is, held beside its own.

A picture's latents are everybody's; only what encodes and decodes them is another network, so its steps are shared.
"""

import json
from pathlib import Path
from typing import Any, Final

import diffusers
import torch

from stablediffusiond.engine.altered import hold_autoencoder
from stablediffusiond.engine.checkpoints import header, vae
from stablediffusiond.engine.decoding import decode_in_float32_if_asked
from stablediffusiond.engine.device_errors import unreadable
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline, denoiser_of, is_autoencoder, lay_out_for_gpus
from stablediffusiond.engine.vae_tiling import tile_one
from stablediffusiond.errors import InvalidRequest, ModelAway, ModelError, ModelUnavailable
from stablediffusiond.settings import VaeTiling

#: What of a config says how large latents are, and how many channels they have.
_CHANNELS: Final = "latent_channels"
_BLOCKS: Final = "block_out_channels"


class Vaes:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``."""

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int, tiling: VaeTiling) -> None:
        self._pipeline = pipeline
        self._own: Any = getattr(pipeline, "vae", None)
        self._tiling = tiling
        self._files = NamedFiles("VAE", "vae", "[folders] vaes", folder)
        self._kept = self._files.kept(self._open, _bytes_of, most_bytes)

    def read(self, name: str | None) -> Any | None:
        """The VAE ``name``; its file is read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such VAE, or it is not for this model.
            ModelError: its file cannot be read.
        """
        if name is None:
            return None
        if self._own is None:
            said = f"this model, of {type(self._pipeline).__name__}, has no VAE that another could stand in for"
            raise InvalidRequest(said, field="vae")
        [network] = self._kept.get([name])
        return network

    def names(self) -> list[str]:
        return self._files.names()

    def _open(self, path: Path) -> Any:
        device, dtype = device_of(self._pipeline), denoiser_of(self._pipeline).dtype
        try:
            network = self._from_folder(path, dtype) if path.is_dir() else self._from_file(path, dtype)
        except (InvalidRequest, ModelError):
            raise
        except (ModelAway, OSError, ValueError) as error:
            raise unreadable("VAE", path, error) from error
        except ModelUnavailable as error:
            raise self._mismatch(path, str(error)) from None
        network.to(device).eval().requires_grad_(requires_grad=False)
        decode_in_float32_if_asked(network)
        if device.type == "cuda":
            lay_out_for_gpus(network)
        tile_one(network, self._tiling, self._pipeline)
        hold_autoencoder(network)
        return network

    def _from_file(self, path: Path, dtype: torch.dtype) -> Any:
        try:
            header.read(path)
        except ModelUnavailable as error:
            raise unreadable("VAE", path, error) from error
        return vae.from_file(path, type(self._own).__name__, dict(self._own.config), dtype)

    def _from_folder(self, path: Path, dtype: torch.dtype) -> Any:
        config = json.loads((path / "config.json").read_text("utf-8"))
        named = str(config.get("_class_name"))
        kind = getattr(diffusers, named, None)
        if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module) and is_autoencoder(kind)):
            raise InvalidRequest(f"{path.name!r} in the folder of VAEs is a {named}, and no VAE", field="vae")
        if (given := config.get(_CHANNELS, 4)) != (own := self._own.config.get(_CHANNELS)):
            raise self._mismatch(path, f"it is for latents of {given} channels, and this model's have {own}")
        blocks, own_blocks = config.get(_BLOCKS), self._own.config.get(_BLOCKS)
        if blocks and own_blocks and len(blocks) != len(own_blocks):
            raise self._mismatch(path, "a latent of it stands for another number of pixels")
        return vae.from_folder(path, dtype)

    def _mismatch(self, path: Path, detail: str) -> InvalidRequest:
        said = f"the VAE {path.stem!r} does not fit this model, of {type(self._pipeline).__name__}: {detail}"
        return InvalidRequest(said, field="vae")


def _bytes_of(network: torch.nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters())
