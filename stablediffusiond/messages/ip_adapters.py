"""IP-Adapters that a request asks for: our own words, and those units of A1111's ControlNet script that are one."""

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import controls
from stablediffusiond.messages.names import FileName
from stablediffusiond.messages.picture_use import PictureUse, checked
from stablediffusiond.messages.spellings import by_field
from stablediffusiond.messages.values import Body, asks_for_nothing, shown

#: What a picture that guides is called.
IMAGE: Final = (*controls.IMAGE, "ip_adapter_image")
#: Field -> what A1111's units and others call it.
_SPELLINGS: Final = {
    "name": ("name", "model"),
    "image": IMAGE,
    "scale": ("scale", "weight", "ip_adapter_scale"),
}
#: What a unit has that is one: how its picture is looked at follows from the file.
_MODULE: Final = "ip-adapter"
_OF_FACES: Final = ("face", "pulid", "instant")
#: What a unit has beside it: its value that asks for nothing, or None where none asks for anything.
_OF_UNITS: Final[dict[str, tuple[object, ...] | None]] = {
    "guidance_start": (0,), "guidance_end": (1,), "start": (0,), "end": (1,), "threshold_a": None, "threshold_b": None,
}  # fmt: skip


class IpAdapterUse(PictureUse):
    """One IP-Adapter of one request."""

    name: FileName = Field(description="A file's name, without its suffix")


def read(value: object, field: str = "ip_adapter") -> tuple[IpAdapterUse, ...]:
    """A request's IP-Adapters.

    Raises:
        InvalidRequest: they are none, or ask for what is not done here.
    """
    uses = []
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, IpAdapterUse):
            uses.append(each)
        elif isinstance(each, Mapping):
            uses.append(_read_one(each, field))
        else:
            said = "must be a list like [{'name': 'ip-adapter_sd15', 'image': '…', 'scale': 0.6}]"
            raise InvalidRequest(f"{field!r} {said}", field=field)
    return tuple(uses)


def move_units(body: Body) -> None:
    """Have those units of A1111's in ``control`` that are IP-Adapters stand in ``ip_adapter`` of the same ``body``."""
    control, given = body.get("control"), body.get("ip_adapter", [])
    if not isinstance(control, list) or not any(map(_is_one, control)):
        return
    body["control"] = [each for each in control if not _is_one(each)]
    units = [each for each in control if _is_one(each)]
    body["ip_adapter"] = [*(given if isinstance(given, list) else [given]), *units]


def _is_one(unit: object) -> bool:
    if not isinstance(unit, Mapping) or controls.is_off(unit):
        return False
    return any(_says_so(unit.get(name)) for name in ("module", "preprocessor"))


def _says_so(module: object) -> bool:
    return str(module).strip().lower().replace("_", "-").startswith(_MODULE)


def _read_one(unit: Mapping[str, object], field: str) -> IpAdapterUse:
    module = unit.get("module", unit.get("preprocessor"))
    if any(each in str(module).lower() for each in _OF_FACES):
        raise InvalidRequest(f"{field!r}: {shown(module)} looks for faces, which nothing here does", field=field)
    fields = {name: each for name, each in unit.items() if not (name in {"module", "preprocessor"} and _says_so(each))}
    fields = controls.without_what_changes_nothing(fields, field)
    for name in _OF_UNITS.keys() & fields.keys():
        said, nothing = fields.pop(name), _OF_UNITS[name]
        if nothing is not None and not asks_for_nothing(said, nothing):
            raise InvalidRequest(f"{name!r} of {field!r} is not done here: {shown(said)}", field=field)
    return checked(IpAdapterUse, by_field(fields, _SPELLINGS, field), field)
