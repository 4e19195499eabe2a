import asyncio

import pytest
from PIL import Image

from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import InvalidRequest, TooLarge
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.requestd.init_images import InitImages
from stablediffusiond.settings import LimitSettings
from tests.pictures.files import encoded


def kind_of(request: Request) -> Kind:
    return Kind(request.width or 512, request.height or 512)


Opened = tuple[CompleteRequest, Image.Image | None, Image.Image | None]


async def opened(limits: LimitSettings | None = None, /, **fields: object) -> Opened:
    request, _ = Request.from_fields({"prompt": "cat", **fields})
    return await InitImages(kind_of).open(CompleteRequest.of(request), limits or LimitSettings())


def photograph(width: int = 1600, height: int = 1200, **options: object) -> bytes:
    return encoded(Image.new("RGB", (width, height), "red"), "JPEG", **options)


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (592, 440)),
        ({"width": 640}, (640, 480)),
        ({"height": 480}, (640, 480)),
        ({"width": 512, "height": 512}, (512, 512)),
    ],
)
async def test_a_photograph_keeps_its_proportions_unless_both_sides_are_given(
    asked: dict[str, object], size: tuple[int, int]
) -> None:
    request, picture, _ = await opened(image=photograph(), **asked)
    assert picture is not None
    assert (request.width, request.height) == picture.size == size


async def test_a_photograph_that_lies_on_its_side_is_upright_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    request, *_ = await opened(image=photograph(exif=exif))
    assert (request.width, request.height) == (440, 592)


async def test_without_an_image_nothing_changes() -> None:
    request, picture, _ = await opened()
    assert picture is None
    assert request.width is request.height is None


@pytest.mark.parametrize(
    ("asked", "field"),
    [({"width": 1024}, "width"), ({"height": 4096}, "height"), ({"width": 2048, "height": 512}, "width")],
)
async def test_a_side_that_makes_too_many_pixels_is_refused(asked: dict[str, object], field: str) -> None:
    with pytest.raises(TooLarge, match="too many pixels; at most 524288 are drawn") as caught:
        await opened(LimitSettings(max_pixels=1024 * 512), image=photograph(500, 2000), **asked)
    assert caught.value.field == field


async def test_a_side_without_an_image_counts_with_the_models_other_side() -> None:
    with pytest.raises(TooLarge, match="16384x512 are too many pixels"):
        await opened(width=16384)


async def test_the_models_own_size_is_always_drawn() -> None:
    limits = LimitSettings(max_pixels=64 * 64)
    assert (await opened(limits))[1] is None
    picture = (await opened(limits, image=photograph()))[1]
    assert picture is not None
    assert picture.size == (592, 440)


async def test_pictures_are_opened_one_at_a_time() -> None:
    images = InitImages(kind_of)
    request, _ = Request.from_fields({"prompt": "cat", "image": photograph()})
    made = await asyncio.gather(*(images.open(CompleteRequest.of(request), LimitSettings()) for _ in range(8)))
    assert {picture.size for _, picture, _ in made if picture} == {(592, 440)}
    assert len(images._opener._threads) == 1


async def test_a_mask_gets_the_size_of_its_picture_whatever_its_own_is() -> None:
    request, picture, mask = await opened(image=photograph(), mask=encoded(Image.new("L", (30, 30), 255), "PNG"))
    assert request.type == "inpaint"
    assert picture is not None
    assert mask is not None
    assert (mask.mode, mask.size, mask.getextrema()) == ("L", picture.size, (255, 255))


async def test_what_is_no_mask_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="'mask' is no PNG") as caught:
        await opened(image=photograph(), mask=b"cat")
    assert caught.value.field == "mask"


async def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'image' is no PNG"):
        await opened(image=b"cat")
