"""ControlNets that a request asks for: our own words, and the units of A1111's ControlNet script."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from stablediffusiond import preprocessors
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.names import FileName
from stablediffusiond.messages.picture_use import PictureUse, checked
from stablediffusiond.messages.spellings import by_field
from stablediffusiond.messages.values import Body, asks_for_nothing, is_false, shown

Number = Annotated[float, Field(allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

#: What a picture that guides is called.
IMAGE: Final = ("image", "input_image")
#: Field -> what A1111's units and others call it.
_SPELLINGS: Final = {
    "model": ("model", "name"),
    "image": IMAGE,
    "scale": ("scale", "weight", "controlnet_conditioning_scale"),
    "start": ("start", "guidance_start", "control_guidance_start"),
    "end": ("end", "guidance_end", "control_guidance_end"),
    "preprocessor": ("preprocessor", "module"),
    "low": ("low", "threshold_a"),
    "high": ("high", "threshold_b"),
}
_SWITCHES: Final = ("enabled", "is_enabled")
#: What else units have: its value that asks for nothing, or None where any value changes nothing here.
_OF_UNITS: Final[dict[str, tuple[object, ...] | None]] = {
    "control_mode": (0, "balanced"),
    "mask": (), "mask_image": (), "effective_region_mask": (), "advanced_weighting": (), "ipadapter_input": (),
    "resize_mode": None, "processor_res": None, "pixel_perfect": None,
    "low_vram": None, "lowvram": None, "use_preview_as_input": None, "generated_image": None, "save_detected_map": None,
    "hr_option": None, "inpaint_crop_input_image": None, "batch_images": None, "input_mode": None,
    "union_control_type": None,
    "animatediff_batch": None, "batch_modifiers": None, "batch_image_files": None, "batch_keyframe_idx": None,
    "batch_image_dir": None, "batch_mask_dir": None, "batch_mask_gallery": None, "output_dir": None, "loopback": None,
    "pulid_mode": None, "is_ui": None,
}  # fmt: skip
#: Only units have these.
_MARKS_OF_UNITS: Final = frozenset({*_SWITCHES, *_OF_UNITS, "module", "threshold_a", "threshold_b"})


class ControlUse(PictureUse):
    """One ControlNet of one request."""

    model: FileName = Field(description="A file's or folder's name")
    start: Part = Field(0.0, description="The part of the steps after which it begins")
    end: Part = Field(1.0, description="The part of the steps after which it ends")
    preprocessor: str | None = Field(None, description="What is made of the picture first; default: it is ready made")
    low: Number | None = Field(None, description="The preprocessor's number, or the lower one of two")
    high: Number | None = Field(None, description="The higher one")

    @property
    def numbers(self) -> tuple[float, ...]:
        """Those of its preprocessor."""
        return preprocessors.numbers(self.preprocessor, self.low, self.high) if self.preprocessor else ()


def read(value: object, field: str = "control") -> tuple[ControlUse, ...]:
    """A request's ControlNets; units that are switched off, or have no model, ask for nothing.

    Raises:
        InvalidRequest: they are none, or ask for what is not done here.
    """
    given = value if isinstance(value, list | tuple) else [value]
    uses = []
    for each in given:
        if isinstance(each, ControlUse):
            uses.append(each)
        elif not isinstance(each, Mapping):
            said = "must be a list like [{'model': 'canny', 'image': '…', 'scale': 0.8}]"
            raise InvalidRequest(f"{field!r} {said}", field=field)
        elif not is_off(each):
            uses.append(_read_one(each, field))
    return tuple(uses)


def is_off(unit: Mapping[str, object]) -> bool:
    """Whether a unit of A1111's is switched off, or names no model."""
    if any(is_false(unit[switch]) for switch in _SWITCHES if switch in unit):
        return True
    without_model = all(asks_for_nothing(unit.get(name)) for name in _SPELLINGS["model"])
    if not without_model or _MARKS_OF_UNITS.isdisjoint(unit):
        return False
    return all(_only_prepares(unit.get(name)) for name in _SPELLINGS["preprocessor"])


def _only_prepares(module: object) -> bool:
    """Whether ``module`` alone changes no picture; some, as "reference_only", need no model to do so."""
    try:
        return asks_for_nothing(module) or preprocessors.find(str(module)) is not None
    except InvalidRequest:
        return False


def _read_one(unit: Mapping[str, object], field: str) -> ControlUse:
    return _checked(by_field(without_what_changes_nothing(unit, field), _SPELLINGS, field), field)


def without_what_changes_nothing(unit: Mapping[str, object], field: str) -> Body:
    """A unit of A1111's without its switches, and what else it has that asks for nothing.

    Raises:
        InvalidRequest: some of it asks for what is not done here.
    """
    fields = {name: each for name, each in unit.items() if each is not None and name not in _SWITCHES}
    for name in _OF_UNITS.keys() & fields.keys():
        said, nothing = fields.pop(name), _OF_UNITS[name]
        if nothing is not None and not asks_for_nothing(said, nothing):
            raise InvalidRequest(f"{name!r} of {field!r} is not done here: {shown(said)}", field=field)
    return fields


def _checked(use: Body, field: str) -> ControlUse:
    try:
        made = checked(ControlUse, _preprocessed(use), field)
        _ = made.numbers
    except InvalidRequest as error:
        said = str(error) if error.field else f"{field!r}: {error}"
        raise InvalidRequest(said, field=field) from None
    if made.start >= made.end:
        raise InvalidRequest(f"a ControlNet of {field!r} ends before it begins", field=field)
    return made


def _preprocessed(use: Body) -> Body:
    """``use`` with its preprocessor as it is called here; units have numbers also where nothing takes them."""
    name = use.get("preprocessor")
    found = preprocessors.find(name) if isinstance(name, str) else None
    if name is not None and not isinstance(name, str):
        raise InvalidRequest(f"the name of a preprocessor must be text, not {shown(name)}")
    taken = preprocessors.NUMBERS[found] if found else ()
    rest = {key: value for key, value in use.items() if key not in {"preprocessor", "low", "high"}}
    numbers = {key: use[key] for key, _ in zip(("low", "high"), taken, strict=False) if _says(use.get(key))}
    return {**rest, **({"preprocessor": found} if found else {}), **numbers}


def _says(number: object) -> bool:
    """Whether it is a choice: to A1111 a negative number is none."""
    try:
        return number is not None and not float(str(number)) < 0
    except ValueError:
        return True  # for pydantic to refuse
