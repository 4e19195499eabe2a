"""What a request means to a model, before it is drawn: its size, what it leaves open, the files that it names."""

import torch

from stablediffusiond.engine.job import Kind
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.on_device import OnDevice
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.request_files import RequestFiles
from stablediffusiond.engine.upscaling import unused_by_upscales
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import Offer


class PipelineRequests(OnDevice):
    """Those to the model of ``pipelines``, called ``name``; to be asked from any thread."""

    def __init__(self, pipelines: ModelPipelines, name: str) -> None:
        super().__init__(device_of(pipelines.base))
        self._pipelines = pipelines
        self._name = name

    def kind_of(self, request: Request) -> Kind:
        """The model's own size where the request names none; of an upscale, that of its picture."""
        if request.type == "upscale":
            return Kind(request.width or 1, request.height or 1, self._name)
        return Kind(*self._pipelines.arguments.size_of(request), self._name)

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        """``request`` with what it leaves to the model chosen; and warnings about what the model has no use for.

        Raises:
            InvalidRequest: the model cannot be used for its task.
        """
        if request.type == "upscale":
            return CompleteRequest.of(request), unused_by_upscales(request)
        return self._pipelines.arguments.complete(request)

    def offer(self) -> Offer:
        """What requests may name, as the files in the folders are now."""
        return self._pipelines.offer()

    def names_files(self, request: Request) -> bool:
        return self._pipelines.names_files(request)

    @torch.inference_mode()
    def read_files(self, request: Request) -> RequestFiles:
        """The LoRAs of ``request``, those in its prompt first, its ControlNets, its VAE and so on.

        Raises:
            InvalidRequest: there is no such file, or it is not for this model.
            ModelError: a file cannot be read.
        """
        return self._pipelines.read_files(request)
