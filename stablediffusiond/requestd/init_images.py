"""The pictures that a job begins with, its mask, and the size at which it is drawn."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVarTuple

from PIL.Image import Image, Resampling

from stablediffusiond import upscalers
from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import InvalidRequest, OutOfMemory, TooLarge
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.picture_use import GUIDES, PictureUse
from stablediffusiond.messages.request import Request
from stablediffusiond.pictures import masks
from stablediffusiond.pictures.masks import Overlay
from stablediffusiond.pictures.opening import open_alpha_at, open_at
from stablediffusiond.pictures.preprocessing import preprocessed
from stablediffusiond.pictures.sizes import Size, as_it_is, at_most, in_proportion
from stablediffusiond.requestd.admission import check_size
from stablediffusiond.settings import LimitSettings

Arguments = TypeVarTuple("Arguments")

#: Of the picture for an IP-Adapter.
_MOST_PROMPT_PIXELS: Final = 1_048_576


class InitPictures(NamedTuple):
    """Of one job, opened."""

    request: CompleteRequest  #: with the size at which it is drawn
    image: Image | None = None  #: RGB, at that size
    mask: Image | None = None  #: L, at that size
    overlay: Overlay | None = None  #: what a drawn picture lies on
    controls: Sequence[Image] = ()  #: for its ControlNets, RGB, at that size
    image_prompts: Sequence[Image] = ()  #: for its IP-Adapters, RGB


class InitImages:
    """Strangers' pictures are opened one at a time: what one of them may cost is what all of them may."""

    def __init__(self, kind_of: Callable[[Request], Kind]) -> None:
        self._kind_of = kind_of
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="opener")

    async def open(self, request: CompleteRequest, limits: LimitSettings) -> InitPictures:
        """The pictures of ``request``, and the size at which it is drawn.

        Raises:
            InvalidRequest, TooLarge, OutOfMemory: the picture cannot be opened, or there are more pixels to draw than
                this service gives.
        """
        if request.type == "upscale" and request.image is not None:
            return await self._in_turn(_open_to_enlarge, request, request.image, limits.max_upscaled_pixels)
        if request.image is None:
            size = _size(self._kind_of(request))
            check_size(request, size, limits)
            opened = InitPictures(request)
            return await self._in_turn(_with_guides, opened, size) if _is_guided(request) else opened
        own = _size(self._kind_of(request.model_copy(update={"width": None, "height": None})))

        def size_for(picture: Size) -> Size:
            width, height = in_proportion(picture, own, request.width, request.height)
            size = _size(self._kind_of(request.model_copy(update={"width": width, "height": height})))
            check_size(request, size, limits)
            return size

        work = _open_part if request.masked and request.mask_padding is not None else _open
        opened = await self._in_turn(work, request, request.image, size_for)
        if not _is_guided(request) or opened.image is None:
            return opened
        return await self._in_turn(_with_guides, opened, opened.image.size)

    async def _in_turn(self, work: Callable[[*Arguments], InitPictures], *arguments: *Arguments) -> InitPictures:
        return await asyncio.get_running_loop().run_in_executor(self._opener, work, *arguments)


def _is_guided(request: Request) -> bool:
    return any(getattr(request, name) for name in GUIDES)


def _with_guides(opened: InitPictures, size: Size) -> InitPictures:
    """``opened`` with what its ControlNets and IP-Adapters look at: their own picture, or the job's own."""

    def picture_of(use: PictureUse, field: str, size_for: Callable[[Size], Size]) -> Image:
        picture = opened.image if use.image is None else _named(field, use.image, size_for)
        if picture is None:
            raise InvalidRequest(f"{GUIDES[field]} of {field!r} needs an 'image'", field=field)
        return picture

    controls = []
    for use in opened.request.control:
        picture = picture_of(use, "control", lambda _: size)
        controls.append(preprocessed(picture, use.preprocessor, use.numbers) if use.preprocessor else picture)
    prompts = [picture_of(use, "ip_adapter", _small) for use in opened.request.ip_adapter]
    return opened._replace(controls=controls, image_prompts=prompts)


def _small(picture: Size) -> Size:
    """Image encoders look at 224 pixels or so, whatever there is."""
    return at_most(picture, _MOST_PROMPT_PIXELS)


def _named(field: str, data: bytes, size_for: Callable[[Size], Size]) -> Image:
    """The picture in ``data`` at the size that ``size_for`` makes of its own; errors name ``field``."""
    try:
        return open_at(data, size_for)
    except (InvalidRequest, TooLarge, OutOfMemory) as error:
        raise type(error)(str(error).replace("'image'", repr(field)), field=field) from None


def _open(request: CompleteRequest, image: bytes, size_for: Callable[[Size], Size]) -> InitPictures:
    """The whole picture is drawn."""
    picture = open_at(image, size_for)
    sized = request.model_copy(update={"width": picture.width, "height": picture.height})
    if not request.masked:
        return InitPictures(sized, picture)
    picture, mask = _with_mask(request, image, size_for, picture)
    under = masks.filled(picture, mask, request.mask_fill)
    return InitPictures(sized, under, mask, Overlay(picture, mask, (0, 0, *picture.size)))


def _open_to_enlarge(request: CompleteRequest, image: bytes, most_pixels: int) -> InitPictures:
    """Where no network enlarges it, it is enlarged as it is opened."""

    def as_it_is_if_it_may_be_enlarged(picture: Size) -> Size:
        width, height = _times(picture, request.upscale_by)
        if width * height > most_pixels:
            said = f"{width}x{height} are too many pixels; an upscale makes at most {most_pixels}"
            raise TooLarge(said, field="upscale_by")
        return picture

    picture = open_at(image, as_it_is_if_it_may_be_enlarged)
    width, height = _times(picture.size, request.upscale_by)
    built_in = upscalers.BUILT_IN.get(request.upscaler or upscalers.OF_UPSCALE)
    if isinstance(built_in, upscalers.OfPixels):
        picture = picture.resize((width, height), Resampling[built_in.resampling])
    return InitPictures(request.model_copy(update={"width": width, "height": height}), picture)


def _open_part(request: CompleteRequest, image: bytes, size_for: Callable[[Size], Size]) -> InitPictures:
    """Only what is around the mask is drawn, at a size of its own."""
    picture, mask = _with_mask(request, image, _as_it_is, open_at(image, _as_it_is))
    box = masks.box_around(mask, request.mask_padding or 0)
    size = size_for((box[2] - box[0], box[3] - box[1]))
    box = masks.in_shape(box, size, picture.size)
    under = masks.filled(picture, mask, request.mask_fill)
    return InitPictures(
        request.model_copy(update={"width": size[0], "height": size[1]}),
        under.crop(box).resize(size, Resampling.LANCZOS),
        mask.crop(box).resize(size, Resampling.LANCZOS),
        Overlay(picture, mask, box),
    )


def _with_mask(
    request: CompleteRequest, image: bytes, size_for: Callable[[Size], Size], picture: Image
) -> tuple[Image, Image]:
    """``picture``, which is what ``image`` holds, and the mask for it, L, with the edge that was asked for.

    Where it is transparent there is nothing that a soft edge could let through, so there it is filled at once.
    """
    if request.mask is None:
        mask = open_alpha_at(image, size_for)
        fill = "neighbours" if request.mask_fill == "original" else request.mask_fill
        picture = masks.filled(picture, mask, fill)
    else:
        mask = _named("mask", request.mask, lambda _: picture.size).convert("L")
    return picture, masks.with_edge(mask, invert=request.mask_invert, blur=request.mask_blur)


def _as_it_is(picture: Size) -> Size:
    return as_it_is(picture, "a part of it is drawn in a picture of at most {most} pixels")


def _times(size: Size, scale: float) -> Size:
    return round(size[0] * scale), round(size[1] * scale)


def _size(kind: Kind) -> Size:
    return kind.width, kind.height
