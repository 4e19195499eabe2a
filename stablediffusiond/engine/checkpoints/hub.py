"""Models of a hub: out of the cache if they are there, without asking anybody; else fetched, and not for ever.

A model in the cache stays as it is until somebody removes it: a start depends on no other machine.
"""

import logging
import os
from pathlib import Path
from typing import Final

from diffusers import DiffusionPipeline
from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from stablediffusiond.engine.checkpoints.folder import INDEX, LEFT_OUT, Folder, Incomplete, variant_of
from stablediffusiond.engine.networks import DENOISERS
from stablediffusiond.errors import ModelAway, ModelUnavailable

log = logging.getLogger(__name__)


_LOG_IN: Final = (
    "write a token of yours in HF_TOKEN (systemctl edit stablediffusiond: [Service] Environment=HF_TOKEN=hf_…, or "
    "LoadCredential= and HF_TOKEN_PATH)"
)


def snapshot(name: str, *, allow_pickle: bool, with_denoiser: bool = True) -> Path:
    """The folder of the model ``name``; of the network that makes the steps it needs only the config, if need be.

    Raises:
        ModelUnavailable: there is no such model, or it is not for us.
        ModelAway: the hub cannot be reached, or is too busy.
    """
    try:
        cached = try_to_load_from_cache(name, INDEX)
    except HFValidationError as error:
        raise ModelUnavailable(f"is no file, no folder, and no hub id: {error}") from None
    if isinstance(cached, str) and _is_complete(
        Path(cached).parent, allow_pickle=allow_pickle, with_denoiser=with_denoiser
    ):
        log.info("%s is in the cache: %s", name, Path(cached).parent)
        return Path(cached).parent
    if constants.HF_HUB_OFFLINE:
        raise ModelUnavailable(
            f"is not in the cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to fetch it"
        )
    return _fetch(name, allow_pickle=allow_pickle, with_denoiser=with_denoiser)


def component_snapshot(name: str) -> Path:
    """The folder of a single component, ``name``: all that is there in safetensors.

    Raises:
        ModelUnavailable, ModelAway: as above.
    """
    try:
        cached = try_to_load_from_cache(name, "config.json")
        if isinstance(cached, str) and any(Path(cached).parent.glob("*.safetensors")):
            return Path(cached).parent
        return Path(snapshot_download(name, allow_patterns=["config.json", "*.safetensors"]))
    except HFValidationError as error:
        raise ModelUnavailable(f"[model] vae: {name} is no file, no folder, and no hub id: {error}") from None
    except Exception as error:  # as in _fetch
        raise _said(error, name) from error


def _is_complete(folder: Path, *, allow_pickle: bool, with_denoiser: bool) -> bool:
    try:
        found = Folder(folder, allow_pickle=allow_pickle, with_denoiser=with_denoiser)
        if not with_denoiser:
            found.denoiser_config()
    except Incomplete as error:
        log.info("%s is in the cache, but not as a whole: %s", folder, error)
        return False
    return True


def _fetch(name: str, *, allow_pickle: bool, with_denoiser: bool) -> Path:
    log.info("fetching %s from %s", name, constants.ENDPOINT)
    try:
        siblings = HfApi().model_info(name, timeout=constants.HF_HUB_ETAG_TIMEOUT).siblings or []
        files = [each.rfilename for each in siblings]
        _require_index(files)
        left_out = dict.fromkeys(LEFT_OUT)
        if not with_denoiser:
            denoiser = [each for each in DENOISERS if f"{each}/config.json" in files][:1]
            left_out |= dict.fromkeys(denoiser)
            for each in denoiser:
                hf_hub_download(name, f"{each}/config.json")
        variant = _variant([each for each in files if each.partition("/")[0] not in left_out])
        use_safetensors = None if allow_pickle else True
        return Path(DiffusionPipeline.download(name, variant=variant, use_safetensors=use_safetensors, **left_out))
    except ModelUnavailable:
        raise
    except Exception as error:  # huggingface_hub's own, those of its HTTP client, the system's
        raise _said(error, name) from error


def _require_index(files: list[str]) -> None:
    if INDEX not in files:
        single = next((each for each in sorted(files) if each.endswith((".gguf", ".safetensors"))), None)
        todo = f"; fetch one of its files, as {single}, and name that" if single else ""
        raise ModelUnavailable(
            f"is no model in the layout of diffusers: at {constants.ENDPOINT} it has no {INDEX}{todo}"
        )


def _variant(files: list[str]) -> str | None:
    folders: dict[str, list[str]] = {}
    for each in files:
        folder, _, name = each.rpartition("/")
        if folder and folder not in LEFT_OUT:
            folders.setdefault(folder, []).append(name)
    return variant_of(folders.values())


def _said(error: Exception, name: str) -> ModelUnavailable | ModelAway:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    page = f"{constants.ENDPOINT}/{name}"
    if isinstance(error, GatedRepoError):
        return ModelUnavailable(f"is given to those who have accepted its terms: do so at {page}, and {_LOG_IN}")
    if isinstance(error, RepositoryNotFoundError) or status in {401, 403}:
        return ModelUnavailable(
            f"is not at {constants.ENDPOINT}, or not for everybody; no such file or folder, either. If it is private, "
            f"{_LOG_IN}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ModelUnavailable("is not in the cache, and HF_HUB_OFFLINE forbids to fetch it")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError) and status is None and "safetensors" in reason:
        return ModelUnavailable(f"has no weights in safetensors: {reason}")
    proxy = (
        "" if any(os.environ.get(each) for each in ("HTTPS_PROXY", "https_proxy")) else "; behind a proxy, HTTPS_PROXY"
    )
    return ModelAway(f"cannot be fetched from {constants.ENDPOINT} now: {reason}; to be tried again{proxy}")
