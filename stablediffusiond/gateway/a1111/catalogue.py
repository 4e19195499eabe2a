"""What A1111's clients may name: samplers, models, and files, as the request daemons offer them."""

import os
from collections.abc import Iterable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond import samplers, upscalers
from stablediffusiond.gateway import by_method
from stablediffusiond.gateway.context import client_of, context_of
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.status import Offer

_AUTOMATIC: Final[dict[str, object]] = {"name": "automatic", "label": "Automatic", "aliases": None}


async def get_samplers(request: Request) -> Response:
    offered = _merged([offer.samplers for offer in await _offers(request)]) or list(samplers.NAMES)
    return JSONResponse([_sampler(name) for name in offered])


async def get_schedulers(_: Request) -> Response:
    found: list[dict[str, object]] = [
        {"name": name.lower().replace(" ", "_"), "label": name, "aliases": list(samplers.spellings(name))}
        for name in samplers.SCHEDULES
    ]
    return JSONResponse([{**each, "default_rho": -1, "need_inner_model": False} for each in [_AUTOMATIC, *found]])


async def get_upscalers(request: Request) -> Response:
    built_in = [name for name, kind in upscalers.BUILT_IN.items() if isinstance(kind, upscalers.OfPixels)]
    offered = _merged([offer.upscalers for offer in await _offers(request)])
    names = ["None", *built_in, *(name for name in offered if name not in upscalers.NAMES)]
    return JSONResponse(
        [{"name": name, "model_name": None, "model_path": None, "model_url": None, "scale": 4} for name in names]
    )


async def get_latent_upscale_modes(_: Request) -> Response:
    names = [name for name, kind in upscalers.BUILT_IN.items() if isinstance(kind, upscalers.OfLatents)]
    return JSONResponse([{"name": name} for name in names])


async def get_models(request: Request) -> Response:
    unknown = {"hash": None, "sha256": None, "config": None}
    return JSONResponse(
        [
            {"title": name, "model_name": name, "filename": name, **unknown}
            for name in await context_of(request).service.models()
        ]
    )


async def get_vaes(request: Request) -> Response:
    names = _merged([offer.vaes for offer in await _offers(request)])
    return JSONResponse([{"model_name": name, "filename": name} for name in names])


async def get_loras(request: Request) -> Response:
    found = {lora.name: lora for offer in await _offers(request) for lora in offer.loras}
    return JSONResponse(
        [
            {"name": name, "alias": name, "path": name, "metadata": {"ss_base_model_version": lora.family}}
            for name, lora in found.items()
        ]
    )


async def get_embeddings(request: Request) -> Response:
    unknown = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None, "shape": 0, "vectors": 0}
    names = _merged([offer.embeddings for offer in await _offers(request)])
    return JSONResponse({"loaded": dict.fromkeys(names, unknown), "skipped": {}})


async def get_options(request: Request) -> Response:
    models = await context_of(request).service.models()
    return JSONResponse(context_of(request).options.shown(client_of(request).name, models[0] if models else ""))


async def set_options(request: Request) -> Response:
    values = parse(await request.body())
    context_of(request).options.set(client_of(request).name, values, await context_of(request).service.models())
    return JSONResponse(None)


async def refresh(_: Request) -> Response:
    """Nothing to do: what there is is asked for each time."""
    return JSONResponse(None)


async def get_flags(_: Request) -> Response:
    return JSONResponse({"api": True, "nowebui": True, "listen": False})


async def get_memory(request: Request) -> Response:
    """Of this machine, and of the devices that draw."""
    page = os.sysconf("SC_PAGE_SIZE")
    total, free = (page * os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    used = [worker.device_memory_bytes for worker in await context_of(request).service.workers()]
    held = sum(each for each in used if each is not None)
    return JSONResponse(
        {"ram": {"free": free, "used": total - free, "total": total}, "cuda": {"active": {"current": held}}}
    )


async def _offers(request: Request) -> list[Offer]:
    return await context_of(request).service.offers()


def _merged(lists: Iterable[Iterable[str]]) -> list[str]:
    """What is in any of them, once."""
    return list(dict.fromkeys(name for each in lists for name in each))


def _sampler(name: str) -> dict[str, Any]:
    aliases = list(samplers.spellings(name)) if name in samplers.NAMES else []
    return {"name": name, "aliases": aliases, "options": {}}


ROUTES: Final = [
    *(
        Route(f"/sdapi/v1/{name}", handler, methods=["GET"])
        for name, handler in {
            "samplers": get_samplers, "schedulers": get_schedulers, "upscalers": get_upscalers,
            "latent-upscale-modes": get_latent_upscale_modes, "sd-models": get_models, "sd-vae": get_vaes,
            "loras": get_loras, "embeddings": get_embeddings, "cmd-flags": get_flags,
            "memory": get_memory,
        }.items()
    ),
    by_method.route("/sdapi/v1/options", GET=get_options, POST=set_options),
    *(Route(f"/sdapi/v1/refresh-{what}", refresh, methods=["POST"]) for what in ("checkpoints", "vae", "loras")),
]  # fmt: skip
