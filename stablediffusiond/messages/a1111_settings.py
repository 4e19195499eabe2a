"""``override_settings`` and ``alwayson_scripts`` of A1111's API: objects of which only some names count here."""

from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, asks_for_nothing, is_false, is_true, shown

_SHOWN_CHARACTERS: Final = 100

#: They stand for fields of ours (``aliases.py``), unless they have one of these values, or are empty.
_USED: Final[dict[str, tuple[object, ...]]] = {
    "sd_model_checkpoint": (), "CLIP_stop_at_last_layers": (1,), "samples_format": ("png",), "jpeg_quality": (),
    "sd_vae": ("automatic",),
}  # fmt: skip
#: It counts where it is false: the file then says nothing.
_METADATA: Final = "enable_pnginfo"
#: It counts where ``samples_format`` is WebP.
_LOSSLESS: Final = "webp_lossless"
#: Setting -> what it asks for, and its values that ask for nothing, besides what is empty.
_REFUSED: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "ddim_discretize": ("other timesteps", ("uniform",)),
    "initial_noise_multiplier": ("more or less noise", (1,)),
    "inpainting_mask_weight": ("a weaker mask", (1,)),
    "eta_ancestral": ("more or less noise inside steps", (1,)),
    "s_noise": ("more or less noise inside steps", (1,)),
}
#: Settings that change nothing in a picture that is drawn here: where files go, what is shown, what random numbers are
#: made from (those of the two programs differ anyway), and which helpers stand ready.
_IGNORED: Final = frozenset(
    {
        "eta_noise_seed_delta", "randn_source", "comma_padding_backtrack", "sd_checkpoint_hash",
        "face_restoration_model", "code_former_weight", "upcast_attn", "enable_batch_seeds",
        "multiple_tqdm", "add_model_hash_to_info", "add_model_name_to_info",
    }
)  # fmt: skip
_IGNORED_BEGINNINGS: Final = (
    "save_", "samples_", "grid_", "outdir_", "directories_", "live_preview", "show_", "return_", "do_not_", "export_",
    "notification_", "sd_checkpoint_cache", "sd_checkpoints_", "cross_attention", "memmon_",
)  # fmt: skip

#: Scripts of A1111 itself that only its own page uses.
_OF_THE_UI: Final = frozenset({"seed", "sampler", "api payload", "comments", "extra options"})
#: The fields by which a script's unit is on, and those that it cannot do without.
_SWITCHES: Final = ("enabled", "is_enabled")
_NEEDED: Final = ("model", "module", "image", "input_image", "ad_model")


def reduce(settings: object) -> tuple[Body, list[str]]:
    """``settings`` as fields of ours, and the names of the settings that were ignored.

    Raises:
        InvalidRequest: a setting asks for something that is not done here.
    """
    fields: Body = {}
    unread: list[str] = []
    for name, value in _lossless(_object("override_settings", settings)).items():
        path = f"override_settings.{name[:_SHOWN_CHARACTERS]}"
        if (name in _USED and not asks_for_nothing(value, _USED[name])) or (name == _METADATA and is_false(value)):
            fields[path] = value
            continue
        unread.append(path)
        if name in {*_USED, *_IGNORED, _METADATA, _LOSSLESS} or (
            name not in _REFUSED and name.startswith(_IGNORED_BEGINNINGS)
        ):
            continue
        what, nothing = _REFUSED.get(name, ("something", ()))
        if not asks_for_nothing(value, nothing):
            raise InvalidRequest(f"{path!r} asks for {what}, which is not done here: {shown(value)}", field=path)
    return fields, unread


def controlnet_units(field: str, scripts: object) -> Body:
    """The units of ControlNet that are on, as a field of ours, by the name that is said of them in errors.

    Raises:
        InvalidRequest: another script is on.
    """
    if isinstance(scripts, list):  # as they came before they were a script
        return {} if _is_off(scripts) else {field: scripts}
    found: Body = {}
    for name, script in _object(field, scripts).items():
        arguments = script.get("args") if isinstance(script, dict) else script
        if name.lower() in _OF_THE_UI or _is_off(arguments):
            continue
        path = f"{field}.{name[:_SHOWN_CHARACTERS]}"
        if name.lower() != "controlnet":
            raise InvalidRequest(f"{path!r} asks for a script, which is not run here", field=path)
        found["alwayson_scripts.controlnet"] = arguments
    return found


def _lossless(settings: Body) -> Body:
    """``settings`` with a name of its own for a WebP that loses nothing, where ``jpeg_quality`` has no say."""
    if str(settings.get("samples_format")).lower() != "webp" or not is_true(settings.get(_LOSSLESS)):
        return settings
    return {**settings, "samples_format": "webp-lossless", "jpeg_quality": None}


def _object(field: str, value: object) -> dict[str, object]:
    """What is empty in the client's language may come as another empty thing: PHP writes ``[]``."""
    if isinstance(value, dict):
        return value
    if not asks_for_nothing(value):
        raise InvalidRequest(f"{field!r} must be an object", field=field)
    return {}


def _is_off(arguments: object) -> bool:
    """Whether a script is switched off: its first argument is its switch, or each of its units has one."""
    if not isinstance(arguments, list):
        arguments = [arguments]
    if arguments and is_false(arguments[0]):
        return True
    return all(_unit_is_off(each) if isinstance(each, dict) else asks_for_nothing(each) for each in arguments)


def _unit_is_off(unit: dict[str, object]) -> bool:
    """Whether a unit, of ControlNet or the like, is switched off or has nothing to work with."""
    if any(is_false(unit[switch]) for switch in _SWITCHES if switch in unit):
        return True
    needed = [unit[part] for part in _NEEDED if part in unit]
    return all(asks_for_nothing(each) for each in needed or unit.values())
