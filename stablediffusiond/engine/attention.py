"""Which of diffusers' attention backends the denoiser computes with; by itself it is PyTorch's.

https://huggingface.co/docs/diffusers/main/en/optimization/attention_backends
"""

import logging
import warnings
from collections.abc import Iterable
from typing import Any, Final

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend, dispatch_attention_fn

from stablediffusiond.engine.device_errors import first_line
from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.errors import ModelUnavailable

log = logging.getLogger(__name__)

_NATIVE: Final = AttentionBackendName.NATIVE
_XFORMERS: Final = AttentionBackendName.XFORMERS
#: What the older processors of diffusers can be told, which UNets have, and a few transformers.
_OLDER: Final = (_NATIVE, _XFORMERS)
#: These are fetched from a hub and run: only for who asks for one by its name.
_FETCHED: Final = "_hub"
#: Of the queries that a backend is tried with: images, places, heads, and numbers of a head.
_TRIED: Final = (1, 128, 2, 64)


def set_backend(pipeline: Pipeline, name: str, device: torch.device) -> None:
    """Have the denoiser of ``pipeline``, which computes on ``device``, compute its attention with the backend ``name``.

    Raises:
        ModelUnavailable: there is no such backend, or it is not for this machine, or not for this network.
    """
    if name == "auto":
        return
    denoiser = denoiser_of(pipeline)
    dispatches = any(hasattr(getattr(each, "processor", None), "_attention_backend") for each in denoiser.modules())
    names = list(AttentionBackendName) if dispatches else _OLDER
    known = name in {each.value for each in AttentionBackendName}
    reason = _refusal(AttentionBackendName(name), device, denoiser.dtype) if known else "there is no such backend"
    if reason is None and AttentionBackendName(name) not in names:
        reason = f"the attention of a {type(denoiser).__name__} is none that can be told so"
    if reason is not None:
        usable = ", ".join(["auto", *_usable(names, device, denoiser.dtype)])
        raise ModelUnavailable(f'[model] attention = "{name}": {reason}; here it may be {usable}')
    _set(denoiser, AttentionBackendName(name), dispatches=dispatches)
    log.info("attention is computed by %s", name)


def _set(denoiser: Any, backend: AttentionBackendName, *, dispatches: bool) -> None:
    if dispatches:
        with attention_backend(_NATIVE):  # which it would make that of every network, and restores
            denoiser.set_attention_backend(backend.value)
    elif backend is _XFORMERS:
        denoiser.enable_xformers_memory_efficient_attention()


def _usable(names: Iterable[AttentionBackendName], device: torch.device, dtype: torch.dtype) -> list[str]:
    here = [each for each in names if not each.value.endswith(_FETCHED)]
    return [each.value for each in here if _refusal(each, device, dtype) is None]


def _refusal(backend: AttentionBackendName, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why ``backend`` cannot be used here: a package is missing, or the device has not what its kernels need."""
    query = torch.zeros(_TRIED, device=device, dtype=dtype)
    try:
        with torch.inference_mode(), warnings.catch_warnings(), attention_backend(backend):
            warnings.simplefilter("ignore")
            dispatch_attention_fn(query, query, query)
    except Exception as error:  # noqa: BLE001 (packages and kernels raise anything)
        return first_line(error).rstrip(".")
    return None
