"""The pictures that a job begins with, its mask, and the size at which it is drawn."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from PIL.Image import Image

from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import InvalidRequest, OutOfMemory, TooLarge
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.pictures.opening import open_at
from stablediffusiond.pictures.sizes import Size, in_proportion
from stablediffusiond.requestd.admission import check_size
from stablediffusiond.settings import LimitSettings


class InitImages:
    """Strangers' pictures are opened one at a time: what one of them may cost is what all of them may."""

    def __init__(self, kind_of: Callable[[Request], Kind]) -> None:
        self._kind_of = kind_of
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="opener")

    async def open(
        self, request: CompleteRequest, limits: LimitSettings
    ) -> tuple[CompleteRequest, Image | None, Image | None]:
        """``request`` with the size at which it is drawn, and its picture and mask, if it has them, at that size.

        Raises:
            InvalidRequest, TooLarge, OutOfMemory: the picture cannot be opened, or there are more pixels to draw than
                this service gives.
        """
        if request.image is None:
            check_size(request, _size(self._kind_of(request)), limits)
            return request, None, None
        own = _size(self._kind_of(request.model_copy(update={"width": None, "height": None})))

        def size_for(picture: Size) -> Size:
            width, height = in_proportion(picture, own, request.width, request.height)
            size = _size(self._kind_of(request.model_copy(update={"width": width, "height": height})))
            check_size(request, size, limits)
            return size

        picture, mask = await asyncio.get_running_loop().run_in_executor(
            self._opener, _open, request.image, request.mask, size_for
        )
        return request.model_copy(update={"width": picture.width, "height": picture.height}), picture, mask


def _open(image: bytes, mask: bytes | None, size_for: Callable[[Size], Size]) -> tuple[Image, Image | None]:
    picture = open_at(image, size_for)
    if mask is None:
        return picture, None
    try:
        return picture, open_at(mask, lambda _: picture.size).convert("L")
    except (InvalidRequest, TooLarge, OutOfMemory) as error:
        raise type(error)(str(error).replace("'image'", "'mask'"), field="mask") from None


def _size(kind: Kind) -> Size:
    return kind.width, kind.height
