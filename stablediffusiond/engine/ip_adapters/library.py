"""The IP-Adapters that one model is asked for, with their image encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stablediffusiond.engine.device_errors import unreadable
from stablediffusiond.engine.ip_adapters import image_encoder
from stablediffusiond.engine.ip_adapters.by_rows import AppliedIpAdapter
from stablediffusiond.engine.ip_adapters.file import FIELD, IpAdapter, read, takes_ip_adapters
from stablediffusiond.engine.ip_adapters.image_encoder import ImageEncoder
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.errors import InvalidRequest, ModelAway, ModelUnavailable
from stablediffusiond.messages.ip_adapters import IpAdapterUse


@dataclass(frozen=True, eq=False)
class ReadIpAdapter(AppliedIpAdapter):
    """One with what sees its picture for it."""

    encoder: ImageEncoder


class IpAdapterLibrary:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``.

    As many bytes again are for their image encoders, which several may have in common.
    """

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._files = NamedFiles("IP-Adapter", FIELD, "[folders] ip_adapters", folder, with_folders=False)
        self._adapters = self._files.kept(self._open, lambda adapter: adapter.nbytes, most_bytes)
        encoders = NamedFiles("image encoder", FIELD, "[folders] ip_adapters", folder)
        self._encoders = encoders.kept(self._open_encoder, lambda encoder: encoder.nbytes, most_bytes)

    def applied(self, uses: Sequence[IpAdapterUse]) -> tuple[ReadIpAdapter, ...]:
        """What ``uses`` ask for; files are read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such IP-Adapter, or it is not for this model.
            ModelError: a file cannot be read.
        """
        if uses and not takes_ip_adapters(denoiser_of(self._pipeline)):
            said = f"this model, of {type(self._pipeline).__name__}, takes no IP-Adapters"
            raise InvalidRequest(said, field=FIELD)
        adapters = self._adapters.get([use.name for use in uses])
        if not adapters or self._folder is None:
            return ()
        there = image_encoder.configs_in(self._folder)
        encoders = self._encoders.read([image_encoder.find(adapter, there) for adapter in adapters])
        each = zip(uses, adapters, encoders, strict=True)
        return tuple(ReadIpAdapter(adapter, use.scale, encoder) for use, adapter, encoder in each)

    def names(self) -> list[str]:
        return self._files.names()

    def _open(self, path: Path) -> IpAdapter:
        try:
            return read(path, self._pipeline)
        except (ModelUnavailable, ModelAway, OSError) as error:
            raise unreadable("IP-Adapter", path, error) from error

    def _open_encoder(self, path: Path) -> ImageEncoder:
        try:
            return image_encoder.read(path, device_of(self._pipeline), denoiser_of(self._pipeline).dtype)
        except (OSError, ValueError) as error:
            raise unreadable("image encoder", path, error) from error
