"""The other spellings of a request's fields, and the fields that are accepted and ignored.

People arrive with bodies written for the first stablediffusiond of 2022, for A1111's API, for diffusers and for AI
Horde. All of those mean the same few things; this file is the table between them. ``canonical`` turns any such body
into one with canonical names only, and never guesses: two spellings that disagree are an error.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stablediffusiond import picture_formats
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import a1111, a1111_hires, a1111_masks, horde, sampler_fields
from stablediffusiond.messages.values import Body, asks_for_nothing, is_placeholder, shown

#: canonical field -> its other spellings.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "prompt": ("positive",),
    "negative_prompt": ("negative",),
    "type": ("source_processing",),
    "model": ("sd_model_checkpoint", "override_settings.sd_model_checkpoint", "ckpt_name"),
    "vae": ("sd_vae", "override_settings.sd_vae", "vae_name"),
    "seed": ("noise_seed",),
    "width": ("W",),
    "height": ("H",),
    "steps": ("num_inference_steps", "ddim_steps"),
    "guidance_scale": ("scale", "cfg_scale", "cfg"),
    "sampler": sampler_fields.NAMES,
    "count": ("n_samples", "batch_size", "num_images_per_prompt", "n"),
    "strength": ("denoising_strength", "denoise"),
    "image": ("init_img", "init_image", "source_image"),
    "mask": ("mask_image", "source_mask"),
    "mask_invert": ("inpainting_mask_invert",),
    "mask_fill": ("inpainting_fill",),
    "mask_padding": ("padding_mask_crop",),
    "clip_skip": ("override_settings.CLIP_stop_at_last_layers",),
    "eta": ("ddim_eta",),
    "format": ("output_format", "samples_format", "override_settings.samples_format"),
    "quality": ("output_quality", "override_settings.jpeg_quality"),
    "metadata": ("override_settings.enable_pnginfo",),
    "loras": ("lora",),
    "control": ("controlnet_units", "alwayson_scripts.controlnet"),
    "upscaler": ("upscaler_1",),
    "upscale_by": ("upscaling_resize",),
}
#: Fields that do not stand for one field alone; ``_unfold`` says what each becomes.
UNFOLDED: Final = (
    "n_iter", "plms", "init_images", "models",
    "inpaint_full_res", "inpaint_full_res_padding", "mask_blur_x", "mask_blur_y", "stop_at_clip_layer",
)  # fmt: skip
#: Fields that may be lists or objects.
_NESTED: Final = frozenset(
    {"init_images", "models", "loras", "control", "ip_adapter", "hires", *ALIASES["loras"], *ALIASES["control"]}
)
#: Fields of the first stablediffusiond that have no meaning here any more: a warning in the reply, not an error.
IGNORED: Final = frozenset(
    {
        "C", "f", "n_rows", "skip_grid", "skip_save", "outdir", "config", "ckpt", "precision", "fixed_code",
        "laion400m",
        "output_type", "return_dict", "max_sequence_length",  # arguments of diffusers' pipelines
    }
)  # fmt: skip

#: What leaves the choice to the service where it is empty, or one of these.
_MAY_BE_EMPTY: Final[dict[str, tuple[object, ...]]] = {
    "model": (), "format": (), "upscaler": (), "vae": ("automatic",)
}  # fmt: skip

_SHOWN_CHARACTERS: Final = 100
#: Whole numbers that are multiplied have to be smaller; a product of a thousand digits can no longer be shown.
_LARGEST: Final = 2**32
#: A1111's strength 0 draws one step at the lowest noise; this is ours that does.
_LEAST_STRENGTH: Final = 0.001
#: What an editor may put before a text, and a spreadsheet before the name of its first column.
_BYTE_ORDER_MARK: Final = "\ufeff"
_CANONICAL: Final = {alias: name for name, others in ALIASES.items() for alias in others} | {"plms": "sampler"}

#: What some of these mean in an upscale.
_OF_UPSCALES: Final = {"scale": "upscale_by"}


@dataclass(frozen=True)
class Canonical:
    """A body with canonical names only."""

    fields: Body
    warnings: list[str]
    spelt: dict[str, str]  #: canonical name -> what its client calls it


def canonical(body: Body, known: Iterable[str]) -> Canonical:
    """``body`` with canonical names only; fields that are null are absent.

    Raises:
        InvalidRequest: an unknown field (with the nearest known one), two spellings of one field that disagree, or a
            field of A1111's API that asks for something that is not done here.
    """
    warnings: list[str] = []
    body, ignored = a1111.reduce(a1111_hires.unfold(horde.unfold(_as_meant(body), warnings)))
    for name, value in body.items():
        if isinstance(value, dict | list) and name not in _NESTED:
            raise InvalidRequest(f"{shown(name)} must not be a list or an object", field=name[:_SHOWN_CHARACTERS])
    known = set(known)
    warnings += [f"{name!r} is accepted and ignored" for name in body if name in IGNORED]
    if ignored:
        warnings.append(f"of A1111's API these ask for nothing that is done here: {', '.join(map(repr, ignored))}")
    spellings: dict[str, str] = {}
    out: Body = {}
    rest = {name: value for name, value in body.items() if name not in IGNORED}
    meanings = _CANONICAL | (_OF_UPSCALES if _is_upscale(body) else {})
    for name, value in _unfold(rest, warnings):
        target = meanings.get(name, name)
        if target in _MAY_BE_EMPTY and asks_for_nothing(value, _MAY_BE_EMPTY[target]):
            continue
        if target not in known:
            nearest = _nearest(name, known)
            raise InvalidRequest(f"unknown field {shown(name)}{nearest}", field=name[:_SHOWN_CHARACTERS])
        if target in out and str(out[target]) != str(value):
            raise InvalidRequest(f"{spellings[target]!r} and {name!r} mean the same and differ; send one", field=name)
        out[target] = value
        spellings[target] = name
    return Canonical(out, warnings, spellings)


def _is_upscale(body: Body) -> bool:
    return "upscale" in {body.get(name) for name in ("type", *ALIASES["type"]) if isinstance(body.get(name), str)}


def _as_meant(body: Body) -> Body:
    """``body`` without what is null, and without byte order marks; a job's id is given back as it came."""
    fields: Body = {}
    for spelt, value in body.items():
        name = spelt.removeprefix(_BYTE_ORDER_MARK)
        if value is None:
            continue
        if name in fields:
            raise InvalidRequest(f"{shown(name)} is given twice", field=name[:_SHOWN_CHARACTERS])
        fields[name] = value.removeprefix(_BYTE_ORDER_MARK) if isinstance(value, str) and name != "id" else value
    return fields


def _unfold(body: Body, warnings: list[str]) -> list[tuple[str, object]]:
    """The fields of ``body`` with those that stand for something else replaced by what they stand for."""
    body = dict(body)
    fields = [
        *_unfold_lists(body, warnings), *sampler_fields.unfold(body), *_unfold_counts(body), *a1111_masks.unfold(body),
        *_unfold_format(body), *_unfold_clip_layer(body),
    ]  # fmt: skip
    with_image = any(_CANONICAL.get(name, name) == "image" for name in (*dict(fields), *body))
    for name in ("strength", *ALIASES["strength"]):
        if name in body and not with_image and body.get("type") not in {"img2img", "inpaint"}:
            warnings.append(f"{name!r} is only looked at beside an image")
            del body[name]
    if str(body.get("denoising_strength")).strip() in {"0", "0.0"}:
        body["denoising_strength"] = _LEAST_STRENGTH
        warnings.append("'denoising_strength' 0 draws one step, at the lowest noise")
    return [*fields, *body.items()]


def _unfold_lists(body: Body, warnings: list[str]) -> list[tuple[str, object]]:
    """The one image of ``init_images``, and the first of ``models``."""
    images, models = _list(body.pop("init_images", []), "init_images"), _list(body.pop("models", []), "models")
    if is_placeholder(images):
        raise InvalidRequest("'init_images' still holds a documentation page's placeholder", field="init_images")
    if len(images) > 1:
        raise InvalidRequest("'init_images' must be a list of exactly one picture", field="init_images")
    if len(models) > 1:
        warnings.append("only the first of 'models' is looked at")
    return [*(("image", image) for image in images), *(("model", model) for model in models[:1])]


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidRequest(f"{name!r} must be a list", field=name)
    return value


def _unfold_counts(body: Body) -> list[tuple[str, object]]:
    """One ``count`` out of ``n_iter`` and what it multiplies."""
    if (times := body.pop("n_iter", None)) is None:
        return []
    counts = [(name, _whole(body.pop(name), name)) for name in ("count", *ALIASES["count"]) if name in body]
    by = _whole(times, "n_iter")
    return [(name, each * by) for name, each in counts or [("count", 1)]]


def _unfold_clip_layer(body: Body) -> list[tuple[str, object]]:
    """ComfyUI counts from the end, with a minus."""
    if (layer := body.pop("stop_at_clip_layer", None)) is None:
        return []
    return [("clip_skip", -_whole(layer, "stop_at_clip_layer"))]


def _unfold_format(body: Body) -> list[tuple[str, object]]:
    """Each ``format`` by its own name, with the quality that some of its names ask for."""
    fields: list[tuple[str, object]] = []
    for name in ("format", *ALIASES["format"]):
        if asks_for_nothing(value := body.get(name)):
            continue
        if not isinstance(value, str):
            raise InvalidRequest(f"{name!r} must be text, the name of a format", field=name)
        try:
            found, quality = picture_formats.find(value)
        except InvalidRequest as error:
            raise InvalidRequest(f"{name!r} {error}", field=name) from None
        body[name] = found
        if quality and any(str(body.pop(each, quality)) != str(quality) for each in ("quality", *ALIASES["quality"])):
            raise InvalidRequest(f"{name!r} {value!r} loses nothing, and has no other quality", field="quality")
        fields += [("quality", quality)] if quality else []
    return fields


def _whole(value: object, name: str) -> int:
    try:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int | str) and not isinstance(value, bool):
            number = int(value)
            if abs(number) < _LARGEST:
                return number
    except ValueError:
        pass  # raised below, with the name of the field
    raise InvalidRequest(f"{name!r} must be a whole number, not {shown(value)}", field=name)


def _nearest(name: str, known: set[str]) -> str:
    spellings = {*known, *_CANONICAL, *UNFOLDED, *a1111.FIELDS}
    near = difflib.get_close_matches(name[:_SHOWN_CHARACTERS].lower(), spellings, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
