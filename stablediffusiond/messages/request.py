"""A request: one job as its client wrote it, parsed once and typed from here on."""

import base64
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stablediffusiond import picture_formats, samplers, upscalers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import picture_text, seeds
from stablediffusiond.messages.aliases import canonical
from stablediffusiond.messages.controls import ControlUse
from stablediffusiond.messages.controls import read as read_controls
from stablediffusiond.messages.hires import Hires
from stablediffusiond.messages.hires import read as read_hires
from stablediffusiond.messages.ip_adapters import IpAdapterUse, move_units
from stablediffusiond.messages.ip_adapters import read as read_ip_adapters
from stablediffusiond.messages.loras import LoraUse, without_tags
from stablediffusiond.messages.loras import in_prompt as loras_in
from stablediffusiond.messages.loras import read as read_loras
from stablediffusiond.messages.names import FileName, file_name
from stablediffusiond.messages.picture_use import GUIDES
from stablediffusiond.messages.prompt_syntax import PromptSyntax
from stablediffusiond.messages.request_checks import check_whole
from stablediffusiond.messages.validation import first_problem
from stablediffusiond.messages.values import Body, asks_for_nothing, is_true

Priority = Literal["low", "normal", "high"]
JobType = Literal["txt2img", "img2img", "inpaint", "upscale"]

#: An AMQP short string holds 255 bytes, and ``<id>/<index>`` has to fit.
MAX_ID_BYTES: Final = 200
#: Prompts travel in the headers of each picture, and an AMQP header frame holds 128 KiB.
MAX_PROMPT_CHARACTERS: Final = 10_000
BOOLEANS: Final = frozenset({"mask_from_alpha", "mask_invert", "metadata", "tiling"})
_MAY_BE_TRUE: Final = BOOLEANS | {"hires"}
#: Fields with words of their own -> what reads them, told the name that is said of them in errors.
_READERS: Final[dict[str, Callable[[object, str], object]]] = {
    "loras": read_loras, "control": read_controls, "ip_adapter": read_ip_adapters, "hires": read_hires
}  # fmt: skip

Pixels = Annotated[int, Field(ge=64, le=16384, multiple_of=8)]
Steps = Annotated[int, Field(ge=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Picture = Annotated[bytes, BeforeValidator(picture_text.read)]
MaskFill = Literal["original", "neighbours", "noise", "plain"]
Controls = Annotated[tuple[ControlUse, ...], BeforeValidator(read_controls)]
IpAdapters = Annotated[tuple[IpAdapterUse, ...], BeforeValidator(read_ip_adapters)]
Loras = Annotated[tuple[LoraUse, ...], BeforeValidator(read_loras)]
SecondPass = Annotated[Hires | None, BeforeValidator(read_hires)]


class Request(BaseModel):
    """One job. Fields, other spellings and defaults: docs/protocol.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(
        default_factory=lambda: str(uuid.uuid4()), description="Job id; default: the message_id, else a new UUID"
    )
    type: JobType = Field(
        "txt2img", description="Or img2img, inpaint, upscale; default: inpaint with a mask, img2img with an image"
    )
    model: Annotated[str, Field(max_length=1000)] | None = Field(
        None, description="The name of the model that the service has; default: that model"
    )
    vae: FileName | None = Field(None, description="A VAE in place of the model's own")
    prompt: Prompt = Field(description="What to draw")
    prompt_syntax: PromptSyntax = Field(
        "a1111", description="plain: prompts are taken letter by letter, without weights, LoRAs or BREAK"
    )
    negative_prompt: Prompt = Field("", description="What not to draw; only under guidance")
    loras: Loras = Field((), description="LoRAs, beside those that the prompt names as <lora:name:0.8>")
    width: Pixels | None = Field(None, description="Default: the model's own size, in the proportions of an image")
    height: Pixels | None = Field(None, description="Default: the model's own size, in the proportions of an image")
    steps: Steps | None = Field(None, description="Denoising steps; default: the model's, else 50")
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description="At most 1 switches guidance off; default: the model's, else 7.5 (img2img: at most 5.0)"
    )
    sampler: str | None = Field(None, description="Default: the model's own scheduler", examples=list(samplers.NAMES))
    seed: int = Field(0, ge=0, lt=seeds.SEEDS, description='Absent, null, -1 or "random": derived from the id')
    subseed: int = Field(0, ge=0, lt=seeds.SEEDS, description="The seed of a variation; default: as that of seed")
    subseed_strength: float = Field(
        0.0, ge=0, le=1, description="From 0, the picture of the seed, to 1, that of the subseed; image k: subseed + k"
    )
    tiling: bool = Field(default=False, description="A picture whose left edge continues its right one, and so on")
    guidance_rescale: float = Field(
        0.0, ge=0, le=1, description="How much of the contrast is taken back that guidance adds; for v-prediction 0.7"
    )
    count: int = Field(1, ge=1, description="Images; image k has seed + k")
    strength: float = Field(0.75, gt=0, le=1, description="img2img, inpaint: how much to change")
    image: Picture | None = Field(
        None, description="img2img, inpaint: a picture's file in base64, or as a data URL", repr=False
    )
    mask: Picture | None = Field(
        None, description="inpaint: a picture's file, white where to draw anew, black where nothing changes", repr=False
    )
    mask_from_alpha: bool = Field(default=False, description="inpaint: the image's own transparent parts are its mask")
    mask_invert: bool = Field(default=False, description="inpaint: black is drawn anew, and white stays")
    mask_blur: float = Field(0.0, ge=0, le=64, description="inpaint: pixels by which the mask's edge is softened")
    mask_fill: MaskFill = Field(
        "original", description="inpaint: what lies under the mask at first: original, neighbours, noise or plain"
    )
    mask_padding: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        None, description="inpaint: only the masked part is drawn, at full size, with so many pixels around it"
    )
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = Field(
        None, description="The layer of CLIP that is read, from the last, 1, on; default: as the model was made"
    )
    control: Controls = Field((), description="ControlNets: a list of objects with model, image, scale, preprocessor…")
    ip_adapter: IpAdapters = Field((), description="IP-Adapters: a list of objects with name, image, scale")
    hires: SecondPass = Field(None, description="txt2img: a second pass at a larger size")
    upscaler: FileName | None = Field(None, description=f"upscale: what enlarges; default: {upscalers.OF_UPSCALE}")
    upscale_by: float = Field(2.0, gt=1, le=8, description="upscale: how many times wider and higher")
    format: picture_formats.Format = Field("png", description="What kind of file each picture is")
    quality: Quality | None = Field(None, description="Of jpeg and webp; webp loses nothing at 100; default: 90")
    metadata: bool = Field(default=True, description="Whether the file says how it was drawn")
    eta: float = Field(0.0, ge=0, le=1, description="DDIM: 0 adds no noise, 1 as much as DDPM")
    preview_every: Steps | None = Field(
        None, description="Steps between two previews of an image; default: as the listener asks"
    )
    priority: Priority = Field("normal", description="Which queue the client puts the job into")
    deadline_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="Seconds from publication; a job past it is answered `expired`"
    )

    def image_seed(self, index: int) -> int:
        """The seed of image ``index``: a job for that image alone, with this seed, draws the same picture."""
        return self.seed if self.subseed_strength else (self.seed + index) % seeds.SEEDS

    def image_subseed(self, index: int) -> int:
        """Variations have one seed, and each a subseed of its own, as in A1111."""
        return (self.subseed + index) % seeds.SEEDS

    def chosen_sampler(self) -> samplers.Sampler | None:
        return samplers.find(self.sampler) if self.sampler else None

    def chosen_loras(self) -> list[LoraUse]:
        """Those of the prompt, and then those of the field."""
        named = loras_in(self.prompt) if self.prompt_syntax == "a1111" else []
        return [*named, *self.loras]

    @property
    def prompt_to_read(self) -> str:
        """Without its LoRAs."""
        return without_tags(self.prompt) if self.prompt_syntax == "a1111" else self.prompt

    @property
    def upscaler_file(self) -> str | None:
        """The upscaler, if it is none that needs no file."""
        name = self.hires.upscaler if self.hires is not None else self.upscaler
        return None if name in upscalers.NAMES else name

    @property
    def masked(self) -> bool:
        return self.mask is not None or self.mask_from_alpha

    def to_json(self) -> bytes:
        """The body to publish: what differs from the defaults, pictures in base64."""
        fields = self.model_dump(exclude_defaults=True, exclude={"image", "mask", *GUIDES}, mode="json")
        fields |= {"id": self.id, "seed": self.seed}
        fields |= {name: [use.to_fields() for use in uses] for name in GUIDES if (uses := getattr(self, name))}
        for name, picture in (("image", self.image), ("mask", self.mask)):
            if picture is not None:
                fields[name] = base64.b64encode(picture).decode()
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def from_fields(cls, fields: Body, *, default_id: str | None = None) -> tuple[Self, list[str]]:
        """A request out of a JSON object's fields in any known spelling, and the warnings about it.

        Raises:
            InvalidRequest: ``field`` names what is wrong.
        """
        read = canonical(fields, cls.model_fields)
        body = dict(read.fields)
        for name, value in body.items():
            # Python would take them for the numbers 0 and 1.
            if isinstance(value, bool) and name not in _MAY_BE_TRUE:
                raise InvalidRequest(f"{read.spelt[name]!r} must not be true or false", field=read.spelt[name])
        job_id = body["id"] = _job_id(body.get("id") or default_id or uuid.uuid4())
        body.setdefault("type", _type_of(body))
        if body["type"] == "upscale":
            body.setdefault("prompt", "")
            body["upscaler"] = upscalers.canonical(file_name(str(body.get("upscaler") or "")) or upscalers.OF_UPSCALE)
        seed = seeds.read(body.get("seed", -1))
        body["seed"] = derived_seed(job_id) if seed is None else seed
        if asks_for_nothing(body.get("subseed_strength", 0)):
            body.pop("subseed", None)
        else:
            subseed = seeds.read(body.get("subseed", -1), "subseed")
            body["subseed"] = derived_seed(f"subseed of {job_id}") if subseed is None else subseed
        move_units(body)
        for name, reader in _READERS.items():
            if name in body:
                body[name] = reader(body[name], read.spelt.get(name, read.spelt.get("control", name)))
        try:
            request = cls.model_validate(body)
        except ValidationError as error:
            raise _invalid(error, read.spelt) from None
        check_whole(request)
        return request, [*read.warnings, *_check_format(request, read.spelt)]


def _check_format(request: Request, spelt: dict[str, str]) -> list[str]:
    """The warnings about it. Raises InvalidRequest for a picture that has no room in it."""
    most = picture_formats.MOST_WEBP_PIXELS_A_SIDE
    if request.format == "webp" and max(request.width or 0, request.height or 0) > most:
        raise InvalidRequest(f"a webp has at most {most} pixels a side; ask for jpeg or png", field="format")
    if request.format == "png" and request.quality is not None:
        return [f"{spelt['quality']!r} is for jpeg and webp; png loses nothing"]
    return []


def _type_of(body: Body) -> JobType:
    if "mask" in body or is_true(body.get("mask_from_alpha")):
        return "inpaint"
    return "img2img" if "image" in body else "txt2img"


def _job_id(value: object) -> str:
    text = str(value)
    if len(text.encode()) > MAX_ID_BYTES or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise InvalidRequest(f"'id' must be at most {MAX_ID_BYTES} bytes, without control characters", field="id")
    return text


def derived_seed(job_id: str) -> int:
    """Of 32 bits, so that every language can read it."""
    return int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:4], "big")


def _invalid(error: ValidationError, spelt: dict[str, str]) -> InvalidRequest:
    """The first error of pydantic, with the client's spelling of the field."""
    name, reason = first_problem(error)
    field = spelt.get(name, name) or None
    return InvalidRequest(f"{field!r} {reason}", field=field)
