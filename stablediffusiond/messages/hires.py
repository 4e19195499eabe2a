"""A second pass at a larger size (A1111 calls it hires fix): what a request says of it."""

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from stablediffusiond import samplers, upscalers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.spellings import by_field, read_as
from stablediffusiond.messages.values import Body, asks_for_nothing, is_false

Pixels = Annotated[int, Field(ge=64, le=16384, multiple_of=8)]

#: Field -> what A1111 and others call it.
_SPELLINGS: Final = {
    "scale": ("scale", "hr_scale"),
    "width": ("width", "hr_resize_x"),
    "height": ("height", "hr_resize_y"),
    "steps": ("steps", "hr_second_pass_steps"),
    "strength": ("strength", "denoising_strength"),
    "upscaler": ("upscaler", "hr_upscaler"),
    "sampler": ("sampler", "hr_sampler_name"),
    "guidance_scale": ("guidance_scale", "cfg_scale"),
}


class Hires(BaseModel):
    """How one picture is drawn on at a larger size."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale: float = Field(2.0, gt=1, le=8, description="How many times wider and higher; not looked at beside a size")
    width: Pixels | None = Field(None, description="Of the picture; default: by height, else by scale")
    height: Pixels | None = Field(None, description="Of the picture; default: by width, else by scale")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Of which the last part is drawn, as strength says; default: as in the first pass"
    )
    strength: float = Field(0.7, gt=0, le=1, description="How much of the first pass is drawn anew")
    upscaler: Annotated[str, Field(max_length=200)] = Field(
        upscalers.OF_HIRES, description="What enlarges the first pass", examples=list(upscalers.NAMES)
    )
    sampler: str | None = Field(None, description="Default: as in the first pass")
    guidance_scale: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="Default: as in the first pass"
    )

    def size(self, first: tuple[int, int], multiple: int) -> tuple[int, int]:
        """Width and height of the picture whose first pass has the size ``first``; multiples of ``multiple``."""
        scale = self.scale
        if self.width is not None or self.height is not None:
            scale = (self.width or 0) / first[0] or (self.height or 0) / first[1]
        sides = self.width or first[0] * scale, self.height or first[1] * scale
        return _rounded(sides[0], multiple), _rounded(sides[1], multiple)


def _rounded(side: float, multiple: int) -> int:
    return max(round(side / multiple), 1) * multiple


def read(value: object, field: str = "hires") -> Hires | None:
    """A request's second pass: an object, or how many times larger; nothing, ``false`` or 1 asks for none.

    Raises:
        InvalidRequest: it is neither.
    """
    if isinstance(value, Hires) or value is None or is_false(value):
        return value if isinstance(value, Hires) else None
    if value is True:
        return Hires()
    if not isinstance(value, Mapping):
        if asks_for_nothing(value, (1, "1")):
            return None
        value = {"scale": value}
    given = {name: each for name, each in value.items() if each is not None}
    return _checked(by_field(given, _SPELLINGS, field), field)


def _checked(given: Body, field: str) -> Hires:
    if isinstance(upscaler := given.get("upscaler"), str):
        given = {**given, "upscaler": upscalers.canonical(file_name(upscaler))}
    made = read_as(Hires, given, field)
    if made.sampler is not None:
        try:
            samplers.find(made.sampler)
        except InvalidRequest as error:
            raise InvalidRequest(f"'sampler' of {field!r}: {error}", field=field) from None
    return made
