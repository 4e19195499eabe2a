"""Every field of A1111's API (AUTOMATIC1111's web UI 1.10, txt2img and img2img), and how it is handled here.

A body that one of its clients sends has some forty fields, most of which ask for nothing: ``false``, ``0``, ``-1``,
``""``, ``[]``, ``{}``, ``null`` or the field's own default. Those are taken. What asks for something that is not done
here is refused by its name, so that no client gets another picture than the one that it asked for.
"""

from dataclasses import dataclass
from typing import Final, TypeGuard

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import a1111_settings
from stablediffusiond.messages.values import Body, asks_for_nothing, is_placeholder, shown


@dataclass(frozen=True)
class Used:
    """It stands for a field of ours; ``aliases.py`` says for which, and how."""

    meaning: str


@dataclass(frozen=True)
class Refused:
    """It asks for ``what``, which is not done here, unless it is one of ``nothing`` or empty."""

    what: str
    nothing: tuple[object, ...] = ()


@dataclass(frozen=True)
class DependsOn:
    """A1111 looks at it only beside another field, which is refused: its value has no effect."""

    field: str


@dataclass(frozen=True)
class Ignored:
    """It changes nothing in a picture that is drawn here, with any value."""

    why: str


@dataclass(frozen=True)
class OfMask:
    """Beside a ``mask`` it asks for ``what``, which is not done here, unless it says one of ``nothing`` or is empty."""

    what: str
    nothing: tuple[object, ...] = ()


@dataclass(frozen=True)
class BesideMask:
    """Beside a ``mask`` it stands for a field of ours; without one it has no effect."""

    meaning: str


@dataclass(frozen=True)
class BesideHires:
    """Beside ``enable_hr`` it stands for ``meaning`` of ``hires`` (``a1111_hires.py``); without it has no effect."""

    meaning: str


Handling = Used | Refused | DependsOn | OfMask | BesideMask | BesideHires | Ignored

_FILES: Final = Ignored("the daemon writes no files")
_OF_THE_UI: Final = Ignored("no part of A1111's API, either")
_OF_A_CLIENT: Final = Ignored("a client's own note")

#: The fields that both kinds of its jobs have.
_COMMON: Final[dict[str, Handling]] = {
    "prompt": Used("prompt"),
    "negative_prompt": Used("negative_prompt"),
    "styles": Refused("styles of the web UI"),
    "seed": Used("seed"),
    "subseed": Used("subseed"),
    "subseed_strength": Used("subseed_strength"),
    "seed_resize_from_h": Refused("the noise of another size"),
    "seed_resize_from_w": Refused("the noise of another size"),
    "sampler_name": Used("sampler"),
    "sampler_index": Used("sampler, where there is no sampler_name"),
    "scheduler": Used("the sampler's schedule"),
    "batch_size": Used("count"),
    "n_iter": Used("multiplies count"),
    "steps": Used("steps"),
    "cfg_scale": Used("guidance_scale"),
    "width": Used("width"),
    "height": Used("height"),
    "restore_faces": Refused("restored faces"),
    "tiling": Used("tiling"),
    "eta": Used("eta"),
    "denoising_strength": Used("strength, beside an image; that of hires, beside enable_hr"),
    "s_min_uncond": Refused("steps without guidance"),
    "s_churn": Refused("noise inside steps"),
    "s_tmin": DependsOn("s_churn"),
    "s_tmax": DependsOn("s_churn"),
    "s_noise": Refused("noise inside steps", (1,)),
    "refiner_checkpoint": Refused("a refiner"),
    "refiner_switch_at": DependsOn("refiner_checkpoint"),
    "override_settings": Used("model and clip_skip; what else is in it is refused, unless it asks for nothing"),
    "override_settings_restore_afterwards": Ignored("a request changes no settings"),
    "script_name": Refused("a script"),
    "script_args": DependsOn("script_name"),
    "alwayson_scripts": Used("control, of its controlnet; refused, if other scripts in it are on"),
    "infotext": Refused("the parameters of a picture"),
    "disable_extra_networks": Refused("LoRAs in a prompt that are not applied"),
    "comments": Ignored("remarks"),
    "force_task_id": Ignored("jobs are known by id"),
    "do_not_save_samples": _FILES,
    "do_not_save_grid": _FILES,
    "save_images": _FILES,
    "send_images": Ignored("pictures are always sent"),
}

_TXT2IMG: Final[dict[str, Handling]] = {
    "enable_hr": Refused("something that is neither true nor false"),
    "firstphase_width": BesideHires("the width of the first pass"),
    "firstphase_height": BesideHires("the height of the first pass"),
    "firstpass_image": Refused("a second pass of a picture that is there"),
    "hr_scale": BesideHires("scale"),
    "hr_upscaler": BesideHires("upscaler"),
    "hr_second_pass_steps": BesideHires("steps"),
    "hr_resize_x": BesideHires("width"),
    "hr_resize_y": BesideHires("height"),
    "hr_checkpoint_name": BesideHires("nothing: refused, unless it asks for nothing"),
    "hr_sampler_name": BesideHires("sampler"),
    "hr_scheduler": BesideHires("nothing: refused, unless it asks for nothing"),
    "hr_prompt": BesideHires("nothing: refused, unless it asks for nothing"),
    "hr_negative_prompt": BesideHires("nothing: refused, unless it asks for nothing"),
}

_IMG2IMG: Final[dict[str, Handling]] = {
    "init_images": Used("image"),
    "resize_mode": Refused("a picture that is cropped or filled up to its size"),
    "image_cfg_scale": Ignored("only for models that edit by instruction"),
    "initial_noise_multiplier": Refused("more or less noise", (1,)),
    "include_init_images": Ignored("replies carry what was drawn"),
    "mask": Used("mask"),
    "latent_mask": Refused("a mask of latents"),
    "mask_blur": BesideMask("mask_blur"),
    "mask_blur_x": BesideMask("mask_blur, as mask_blur_y"),
    "mask_blur_y": BesideMask("mask_blur, as mask_blur_x"),
    "mask_round": Ignored("a mask has grey levels"),
    "inpainting_fill": BesideMask("mask_fill"),
    "inpaint_full_res": BesideMask("mask_padding"),
    "inpaint_full_res_padding": BesideMask("mask_padding, beside inpaint_full_res"),
    "inpainting_mask_invert": BesideMask("mask_invert"),
}

#: What else comes in such bodies: A1111 skips what it does not know, so its clients send what they have.
_BESIDE_IT: Final[dict[str, Handling]] = {
    **dict.fromkeys(
        (
            "outpath_samples", "outpath_grids", "prompt_for_display", "seed_enable_extras", "extra_generation_params",
            "overlay_images", "do_not_reload_embeddings", "ddim_discretize", "sampler_noise_scheduler_override",
            "eta_noise_seed_delta", "ENSD", "token_merging_ratio", "token_merging_ratio_hr",
        ),
        _OF_THE_UI,
    ),
    # Forge and SD.Next
    "clip_skip": Used("clip_skip"),
    "distilled_cfg_scale": Ignored("only for distilled models"),
    "hr_cfg": BesideHires("guidance_scale"),
    "hr_distilled_cfg": Ignored("only for distilled models"),
    "hr_additional_modules": BesideHires("nothing: refused, unless it asks for nothing"),
    # Auto-Photoshop-StableDiffusion-Plugin and SillyTavern
    "controlnet_units": Used("control"),
    "expanded_mask": OfMask("an expanded mask"),
    "mask_expansion": OfMask("an expanded mask"),
    **dict.fromkeys(
        (
            "selection_info", "original_prompt", "original_negative_prompt", "use_sharp_mask", "use_prompt_shortcut",
            "prompt_shortcut_ui_dict", "uniqueDocumentId", "mode", "url", "auth",
        ),
        _OF_A_CLIENT,
    ),
}  # fmt: skip

FIELDS: Final[dict[str, Handling]] = _COMMON | _TXT2IMG | _IMG2IMG | _BESIDE_IT

#: What may be a mask; beside ours, fields of A1111's are not looked for.
_MASKS: Final = ("mask", "mask_image", "source_mask", "mask_from_alpha")
#: Names of samplers and schedules, for which the page leaves a placeholder, and old clients a number or nothing.
_NAMES: Final = frozenset({"sampler_name", "sampler_index", "scheduler"})
#: Its documentation page fills these in with ``true``, for want of a default.
_PREFILLED_TRUE: Final = frozenset({"restore_faces", "tiling"})


def reduce(body: Body) -> tuple[Body, list[str]]:
    """``body`` without the fields that only A1111 has, and the names of those that were ignored.

    Raises:
        InvalidRequest: one of them asks for something that is not done here.
    """
    prefilled = any(is_placeholder(value) for name, value in body.items() if name in FIELDS and name != "prompt")
    masked = any(not asks_for_nothing(body.get(name)) for name in _MASKS)
    rest: Body = {}
    ignored: list[str] = []
    for name, value in body.items():
        handling = FIELDS.get(name)
        if name == "override_settings":
            settings, ignored_settings = a1111_settings.reduce(value)
            rest |= settings
            ignored += ignored_settings
        elif name in {"alwayson_scripts", "controlnet_units"}:
            units = a1111_settings.controlnet_units(name, value)
            rest |= units
            ignored += [] if units else [name]
        elif handling is None or _says_something(name, value, handling, prefilled=prefilled, masked=masked):
            rest[name] = value
        else:
            placeholder = _is_prefilled(name, value, prefilled=prefilled)
            asked = not placeholder and not asks_for_nothing(value, getattr(handling, "nothing", ()))
            if asked and _is_looked_at(handling, masked=masked):
                message = f"{name!r} asks for {handling.what}, which is not done here: {shown(value)}"
                raise InvalidRequest(message, field=name)
            ignored.append(name)
    return rest, ignored


def _is_looked_at(handling: Handling, *, masked: bool) -> TypeGuard[Refused | OfMask]:
    return isinstance(handling, Refused) or (isinstance(handling, OfMask) and masked)


def _says_something(name: str, value: object, handling: Handling, *, prefilled: bool, masked: bool) -> bool:
    """Whether it stands for a field of ours, and has a value that is not its way to say nothing."""
    if not isinstance(handling, Used) and not (isinstance(handling, BesideMask) and masked):
        return False
    if (name == "mask" and is_placeholder(value)) or _is_prefilled(name, value, prefilled=prefilled):
        return False
    may_be_nothing = name in {*_NAMES, "mask", "clip_skip", "tiling"}
    return not (may_be_nothing and asks_for_nothing(value, (1,) if name == "clip_skip" else ()))


def _is_prefilled(name: str, value: object, *, prefilled: bool) -> bool:
    return prefilled and name in _PREFILLED_TRUE and value is True
