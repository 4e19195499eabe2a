"""``format``, ``quality`` and ``metadata`` of a request, however they are written."""

import pytest

from stablediffusiond import picture_formats
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request


def request(**fields: object) -> Request:
    made, warnings = Request.from_fields({"prompt": "cat", **fields})
    assert not warnings
    return made


def complaint(**fields: object) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        Request.from_fields({"prompt": "cat", **fields})
    return str(caught.value), caught.value.field


@pytest.mark.parametrize(
    ("written", "format_", "quality"),
    [
        ("png", "png", None), ("PNG", "png", None), (" jpg ", "jpeg", None), (".JPG", "jpeg", None), ("image/jpeg", "jpeg", None),
        ("webp", "webp", None), ("image/webp", "webp", None), ("webp-lossless", "webp", 100), ("webp_lossless", "webp", 100),
        ("", "png", None), (None, "png", None),
    ],
)  # fmt: skip
def test_a_format_is_known_by_many_names(written: str | None, format_: str, quality: int | None) -> None:
    for name in ("format", "output_format", "samples_format"):
        made = request(**{name: written})
        assert (made.format, made.quality) == (format_, quality)


def test_what_is_left_out_is_a_png_that_says_how_it_was_drawn() -> None:
    made = request()
    assert (made.format, made.quality, made.metadata) == ("png", None, True)


@pytest.mark.parametrize(
    ("fields", "said", "field"),
    [
        (
            {"output_format": "gif"},
            "'output_format' must be png, jpeg, webp or webp-lossless, not 'gif'",
            "output_format",
        ),
        ({"format": 3}, "'format' must be text, the name of a format", "format"),
        ({"format": "jpeg", "output_format": "webp"}, "mean the same and differ", "output_format"),
        ({"format": "webp-lossless", "quality": 80}, "'format' 'webp-lossless' loses nothing", "quality"),
        ({"format": "jpeg", "quality": 0}, "'quality' must be greater than or equal to 1, not 0", "quality"),
        ({"format": "jpeg", "output_quality": 101}, "'output_quality' must be", "output_quality"),
        ({"format": "webp", "width": 16384, "height": 64}, "a webp has at most 16383 pixels a side", "format"),
        ({"metadata": "perhaps"}, "'metadata' must be a valid boolean", "metadata"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], said: str, field: str) -> None:
    message, where = complaint(**fields)
    assert said in message
    assert where == field


def test_a_png_has_no_quality() -> None:
    made, warnings = Request.from_fields({"prompt": "cat", "output_quality": 80})
    assert warnings == ["'output_quality' is for jpeg and webp; png loses nothing"]
    assert made.format == "png"


def test_a_lossless_webp_may_say_its_quality_too() -> None:
    assert request(format="webp-lossless", quality="100").quality == 100


@pytest.mark.parametrize("value", [False, "false", "no", 0, "0"])
def test_a_clean_file_is_asked_for_in_any_words(value: object) -> None:
    assert request(metadata=value).metadata is False


def test_a_request_comes_through_the_queue_as_it_is() -> None:
    made = request(format="webp", quality=70, metadata=False, id="x")
    assert Request.model_validate_json(made.to_json()) == made


def test_suffixes() -> None:
    assert [picture_formats.of_suffix(each) for each in (".jpg", ".JPEG", ".webp", ".png", "", ".gif")] == [
        "jpeg", "jpeg", "webp", "png", None, None,
    ]  # fmt: skip
    assert {picture_formats.of_suffix(suffix) for suffix in picture_formats.SUFFIXES.values()} == {
        "png",
        "jpeg",
        "webp",
    }
