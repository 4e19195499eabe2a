import asyncio

import pytest
from PIL import Image

from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import InvalidRequest, TooLarge
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.requestd.init_images import InitImages, InitPictures
from stablediffusiond.settings import LimitSettings
from tests.pictures.files import encoded


def kind_of(request: Request) -> Kind:
    return Kind(request.width or 512, request.height or 512)


async def opened(limits: LimitSettings | None = None, /, **fields: object) -> InitPictures:
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
    request, picture, *_ = await opened(image=photograph(), **asked)
    assert picture is not None
    assert (request.width, request.height) == picture.size == size


async def test_a_photograph_that_lies_on_its_side_is_upright_first() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    request, *_ = await opened(image=photograph(exif=exif))
    assert (request.width, request.height) == (440, 592)


async def test_without_an_image_nothing_changes() -> None:
    request, picture, *_ = await opened()
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
    assert {picture.size for _, picture, *_ in made if picture} == {(592, 440)}
    assert len(images._opener._threads) == 1


async def test_a_mask_gets_the_size_of_its_picture_whatever_its_own_is() -> None:
    request, picture, mask, *_ = await opened(image=photograph(), mask=encoded(Image.new("L", (30, 30), 255), "PNG"))
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


def masked(box: tuple[int, int, int, int], size: tuple[int, int] = (1600, 1200)) -> bytes:
    made = Image.new("L", size)
    made.paste(255, box)
    return encoded(made, "PNG")


async def test_a_mask_lies_on_the_picture_at_the_size_that_is_drawn() -> None:
    request, picture, mask, overlay, *_ = await opened(image=photograph(), mask=masked((0, 0, 800, 1200)), mask_invert=True)
    assert picture is not None
    assert mask is not None
    assert overlay is not None
    assert mask.size == picture.size == overlay.picture.size == (request.width, request.height)
    assert (mask.getpixel((0, 0)), mask.getpixel((591, 0))) == (0, 255)


async def test_only_the_masked_part_is_drawn_at_full_size() -> None:
    request, picture, mask, overlay, *_ = await opened(
        image=photograph(), mask=masked((400, 400, 500, 500)), mask_padding=28, width=512, height=512
    )
    assert picture is not None
    assert mask is not None
    assert overlay is not None
    assert picture.size == mask.size == (request.width, request.height) == (512, 512)
    assert overlay.box == (372, 372, 528, 528)
    assert overlay.picture.size == (1600, 1200)
    assert (mask.getpixel((0, 0)), mask.getpixel((256, 256))) == (0, 255)


async def test_without_a_size_the_part_keeps_its_proportions() -> None:
    request, _, _, overlay, *_ = await opened(
        image=photograph(), mask=masked((400, 400, 800, 600)), mask_padding=0
    )
    assert overlay is not None
    assert overlay.box == (398, 400, 802, 600)  # in multiples of 8 it is a little wider
    assert (request.width or 0) / (request.height or 1) == pytest.approx(2, rel=0.03)


async def test_what_is_transparent_is_the_mask_if_asked_for() -> None:
    picture = Image.new("RGBA", (512, 512), (255, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 256, 512))
    _, opened_picture, mask, *_ = await opened(image=encoded(picture, "PNG"), mask_from_alpha="true")
    assert mask is not None
    assert opened_picture is not None
    assert (mask.getpixel((10, 10)), mask.getpixel((500, 10))) == (255, 0)
    assert opened_picture.getpixel((10, 10)) == (255, 0, 0), "a soft edge would show the white below"
    with pytest.raises(InvalidRequest, match="no transparent parts"):
        await opened(image=photograph(), mask_from_alpha=True)


async def test_a_mask_with_nothing_to_draw_is_refused_where_a_part_is_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="nothing white"):
        await opened(image=photograph(), mask=masked((0, 0, 0, 0)), mask_padding=0)


async def test_a_part_of_a_picture_that_is_too_large_to_send_back_is_refused() -> None:
    with pytest.raises(TooLarge, match="at most 16777216 pixels"):
        await opened(image=photograph(5000, 4000), mask=masked((0, 0, 90, 90), (500, 400)), mask_padding=0)


async def test_controls_have_the_size_of_what_is_drawn() -> None:
    control = {"model": "canny", "image": encoded(Image.new("L", (30, 30), 255), "PNG")}
    controls = (await opened(control=[control, control], width=640, height=512)).controls
    assert [(each.mode, each.size) for each in controls] == [("RGB", (640, 512))] * 2
    _, picture, _, _, controls, _ = await opened(image=photograph(), control={"model": "canny"})
    assert controls == [picture], "without one of its own it looks at the job's"


async def test_what_is_no_control_picture_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest, match="'control' is no PNG") as caught:
        await opened(control={"model": "canny", "image": b"no picture"})
    assert caught.value.field == "control"


async def test_what_a_controlnet_looks_at_is_preprocessed_at_the_size_that_is_drawn() -> None:
    halves = Image.new("RGB", (640, 640), "white")
    halves.paste("black", (0, 0, 320, 640))
    data = encoded(halves, "PNG")
    control: list[object] = [{"model": "edges", "image": data, "preprocessor": "canny"}, {"model": "tiles"}]
    made = await opened(image=data, width=128, height=128, control=control)
    edges, plain = (each.convert("L") for each in made.controls)
    assert edges.size == plain.size == (128, 128)
    assert plain.getextrema() == edges.getextrema() == (0, 255)
    box = edges.getbbox()
    assert box is not None
    assert box[2] - box[0] < 8, "the line between them"


async def test_what_an_ip_adapter_looks_at_keeps_its_shape_and_is_not_large() -> None:
    data = encoded(Image.new("RGB", (3000, 1000), "blue"), "PNG")
    made = await opened(width=128, height=128, ip_adapter=[{"name": "plus", "image": data}])
    [picture] = made.image_prompts
    assert picture.size == (1773, 591)
    made = await opened(image=photograph(), ip_adapter=[{"name": "plus"}])
    assert made.image_prompts == [made.image], "without one of its own it looks at the job's"
    with pytest.raises(InvalidRequest, match="'ip_adapter' is no PNG") as caught:
        await opened(ip_adapter=[{"name": "plus", "image": b"no picture at all"}])
    assert caught.value.field == "ip_adapter"
