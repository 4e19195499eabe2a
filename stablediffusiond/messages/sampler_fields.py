"""One ``sampler`` out of the fields in which clients name it, and its schedule."""

from typing import Final

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, shown

#: The other spellings of ``sampler``.
NAMES: Final[tuple[str, ...]] = ("sampler_name", "sampler_index", "scheduler")
_SHOWN_CHARACTERS: Final = 100


def unfold(body: Body) -> list[tuple[str, object]]:
    """One ``sampler`` out of ``plms``, ``sampler``, ``sampler_name`` and ``scheduler``.

    ``scheduler`` is the sampler for diffusers and the schedule for A1111, which its value tells apart; A1111 looks at
    ``sampler_index`` only where there is no ``sampler_name``.
    """
    plms = _truth(body.pop("plms", None), "plms")
    names = [(key, body.pop(key)) for key in ("sampler", *NAMES) if key in body]
    for key, value in names:
        if not isinstance(value, str):
            raise InvalidRequest(f"{key!r} must be text, the name of a sampler", field=key)
    texts = [(key, str(value)[:_SHOWN_CHARACTERS]) for key, value in names]
    if "sampler_name" in dict(texts):
        texts = [(key, text) for key, text in texts if key != "sampler_index"]
    schedule = next((text for key, text in texts if key == "scheduler" and samplers.is_schedule(text)), None)
    solvers = [(key, text) for key, text in texts if not (key == "scheduler" and samplers.is_schedule(text))]
    if plms:
        solvers.append(("plms", "PLMS"))
    if not solvers:
        if schedule and samplers.find("DPM++ 2M", schedule) != samplers.Sampler("DPM++ 2M"):
            raise InvalidRequest(f"the schedule {schedule!r} needs a sampler beside it", field="scheduler")
        return []
    found = [(key, _find_sampler(key, text, schedule)) for key, text in solvers]
    return [(key, str(sampler)) for key, sampler in found if sampler]


def _find_sampler(key: str, text: str, schedule: str | None) -> samplers.Sampler | None:
    try:
        return samplers.find(text, schedule)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), field=key if error.field == "sampler" else error.field) from None


def _truth(value: object, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    booleans = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    if str(value).strip().lower() not in booleans:
        raise InvalidRequest(f"{name!r} must be true or false, not {shown(value)}", field=name)
    return booleans[str(value).strip().lower()]
