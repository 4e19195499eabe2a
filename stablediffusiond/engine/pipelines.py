"""The pipelines that draw with one model: diffusers' own, one for each task, over the same networks, which are held."""

import copy
import functools
from typing import Any

import torch

from stablediffusiond import samplers, upscalers
from stablediffusiond.engine import schedulers
from stablediffusiond.engine.altered import Altered, hold_autoencoder
from stablediffusiond.engine.arguments import Arguments
from stablediffusiond.engine.beside_model import NOTHING_BESIDE, BesideModel
from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.controlnets import ControlNets, controlled
from stablediffusiond.engine.embeddings import Embeddings
from stablediffusiond.engine.forward import Forward
from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.ip_adapters.library import IpAdapterLibrary
from stablediffusiond.engine.job import Task
from stablediffusiond.engine.loras.library import LoraLibrary
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.model_defaults import ModelDefaults
from stablediffusiond.engine.networks import Pipeline, denoiser_of, is_autoencoder, modules_of
from stablediffusiond.engine.prompts.cache import PromptCache
from stablediffusiond.engine.prompts.encoding import Reading, clip_encoders, is_clip, read_in_chunks
from stablediffusiond.engine.request_files import NO_FILES, RequestFiles
from stablediffusiond.engine.tasks import pipelines_by_task
from stablediffusiond.engine.upscaler_files import Upscalers
from stablediffusiond.engine.vaes import Vaes
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import JobType, Request
from stablediffusiond.messages.status import Offer
from stablediffusiond.settings import CompileMode, FolderSettings, VaeTiling


class ModelPipelines:
    """One model, opened; ``base`` is the pipeline that it was opened as."""

    def __init__(
        self,
        base: Pipeline,
        defaults: ModelDefaults,
        compile_mode: CompileMode = "off",
        folders: FolderSettings | None = None,
        *,
        vae_tiling: VaeTiling = "off",
        beside: BesideModel = NOTHING_BESIDE,
    ) -> None:
        folders = folders or FolderSettings()
        self.base = base
        self.denoiser = denoiser_of(base)
        #: Makes the calls of ``denoiser``.
        self.forward = Forward(self.denoiser, device_of(base), compile_mode)
        self.decoders = [module for module in modules_of(base) if is_autoencoder(module)]
        self.prompts = PromptCache()
        self.embeddings = Embeddings(base, clip_encoders(base), folders.embeddings)
        self.controlnets = ControlNets(base, folders.controlnets, folders.controlnet_bytes, beside.controlnets)
        self._with_controlnets: dict[JobType, tuple[tuple[Any, ...], Pipeline]] = {}
        self.ip_adapters = IpAdapterLibrary(base, folders.ip_adapters, folders.ip_adapter_bytes)
        self.vaes = Vaes(base, folders.vaes, folders.vae_bytes, vae_tiling)
        self.loras = LoraLibrary(base, folders.loras, folders.lora_bytes, beside.loras)
        self.upscalers = Upscalers(folders.upscalers, folders.upscaler_bytes, device_of(base), self.denoiser.dtype)
        self.by_task = pipelines_by_task(base)
        self.arguments = Arguments(self.by_task, defaults)
        self._spacing = defaults.timestep_spacing
        for pipeline in self.by_task.values():
            pipeline.set_progress_bar_config(disable=True)
        hold(self.denoiser, function=self.forward, altered=True)
        for module in modules_of(base):
            if module in self.decoders:
                hold_autoencoder(module)
            elif module is not self.denoiser:
                hold(module, function=Altered(module, "forward"), altered=True)
                if is_clip(module):
                    read_in_chunks(module)

    def read_files(self, request: Request) -> RequestFiles:
        """The files that ``request`` names.

        Raises:
            InvalidRequest: there is no such file, or it is not for this model.
            ModelError: a file cannot be read.
        """
        looked_through = request.prompt_syntax == "a1111"
        return RequestFiles(
            self.loras.adapters(request.chosen_loras()),
            self.controlnets.read(request.control),
            self.embeddings.in_prompts(request.prompt_to_read, request.negative_prompt) if looked_through else (),
            self.ip_adapters.applied(request.ip_adapter),
            self.vaes.read(request.vae),
            self.upscalers.read(name) if (name := request.upscaler_file) else None,
        )

    def offer(self) -> Offer:
        """What requests may name, and what they get that name nothing."""
        complete, _ = self.arguments.complete(Request(type=next(iter(self.by_task)), prompt=""))
        width, height = self.arguments.size_of(Request(prompt=""))
        return Offer(
            tasks=[*self.by_task, "upscale"],
            width=width,
            height=height,
            steps=complete.steps,
            guidance_scale=complete.guidance_scale,
            sampler=schedulers.name_of(self.base.scheduler),
            samplers=list(samplers.NAMES),
            loras=self.loras.facts(),
            embeddings=self.embeddings.names(),
            controlnets=self.controlnets.names(),
            ip_adapters=self.ip_adapters.names(),
            vaes=self.vaes.names(),
            upscalers=[*upscalers.NAMES, *self.upscalers.names()],
        )

    def names_files(self, request: Request) -> bool:
        """Whether there is anything to read for ``request``."""
        named = request.control or request.ip_adapter or request.vae or request.upscaler_file or request.chosen_loras()
        return bool(named or self.embeddings.some)

    def for_image(
        self, request: CompleteRequest, scheduler: ImageScheduler, files: RequestFiles = NO_FILES
    ) -> tuple[Pipeline, list[str]]:
        """A pipeline for one image: its networks are shared, its scheduler and what its ``__call__`` notes are not.

        Beside it, what will have those parts of the prompts that were not seen.
        """
        own = copy.copy(self._controlled(request.type, files.controlnets))
        own.__dict__["scheduler"] = scheduler.scheduler  # past __setattr__, which would write it into the shared config
        if files.vae is not None:
            own.__dict__["vae"] = files.vae
        return own, self.prompts.attach(own, Reading(request.prompt_syntax, files.embeddings), files.adapters)

    def _controlled(self, task: JobType, networks: tuple[Any, ...]) -> Pipeline:
        if not networks:
            return self.by_task[task]
        known = self._with_controlnets.get(task)
        if known is None or known[0] != networks:  # those of the last job: whoever asks for one, asks again
            known = self._with_controlnets[task] = networks, controlled(self.by_task[task], task, networks)
        return known[1]

    def scheduler_for(self, task: Task, generator: torch.Generator) -> ImageScheduler:
        """The scheduler of an image whose noise comes from ``generator``.

        Raises:
            InvalidRequest: the sampler is not for this model, or cannot begin with an image.
        """
        request, sampler = task.request, task.request.chosen_sampler()
        strength = self.arguments.strength_of(task)
        spacing = self._spacing
        if strength is not None and request.steps * strength < 1:
            spacing = "trailing"  # of one step out of many only this one has the noise level that the strength says
        made = schedulers.make(sampler, self.base.scheduler, **({"timestep_spacing": spacing} if spacing else {}))
        if strength is not None and not (hasattr(made, "add_noise") or hasattr(made, "scale_noise")):
            raise InvalidRequest(f"{schedulers.name_of(made)} cannot begin with an image", field="sampler")
        tabled = sampler is not None and sampler.schedule == "Align Your Steps"
        return ImageScheduler(
            made,
            generator,
            strength=strength,
            sigmas=functools.partial(schedulers.aligned_sigmas, self.base) if tabled else None,
        )
