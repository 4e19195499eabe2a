"""The pictures that img2img begins with, and the size at which a job is drawn."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from PIL.Image import Image

from stablediffusiond.engine.job import Kind
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

    async def open(self, request: Request, limits: LimitSettings) -> tuple[Request, Image | None]:
        """``request`` with the size at which it is drawn, and its picture, if it has one, at that size.

        Raises:
            InvalidRequest, TooLarge, OutOfMemory: the picture cannot be opened, or there are more pixels to draw than
                this service gives.
        """
        if request.image is None:
            check_size(request, _size(self._kind_of(request)), limits)
            return request, None
        own = _size(self._kind_of(request.model_copy(update={"width": None, "height": None})))

        def size_for(picture: Size) -> Size:
            size = in_proportion(picture, own, request.width, request.height)
            check_size(request, size, limits)
            return size

        picture = await asyncio.get_running_loop().run_in_executor(self._opener, open_at, request.image, size_for)
        return request.model_copy(update={"width": picture.width, "height": picture.height}), picture


def _size(kind: Kind) -> Size:
    return kind.width, kind.height
