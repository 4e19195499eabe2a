"""What a picture's file says of itself: it comes back from every format, and strangers' files end in a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin

from stablediffusiond.errors import InvalidRequest, JobError
from stablediffusiond.picture_formats import Format
from stablediffusiond.pictures import exif
from stablediffusiond.pictures.encoding import encode
from stablediffusiond.pictures.metadata import Metadata, as_exif, fitting_jpeg, read

PIXELS = np.random.default_rng(0).integers(0, 255, (16, 24, 3), np.uint8)
TEXT = "a cat\nSteps: 20, Sampler: Euler a, Seed: 1"
SAYS = Metadata(TEXT, '{"prompt": "a cat"}')
FORMATS: tuple[Format, ...] = ("png", "jpeg", "webp")

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)
#: By their ASCII a reader tells in which order the bytes of a JPEG's text are.
PARAMETERS = TEXTS.map(lambda prompt: f"{prompt}\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512")


@pytest.mark.parametrize("picture_format", FORMATS)
@example(parameters="\u0100", request_json="0")
@given(parameters=PARAMETERS, request_json=TEXTS)
def test_all_of_it_comes_back(picture_format: Format, parameters: str, request_json: str) -> None:
    says = Metadata(parameters, request_json)
    assert read(encode(PIXELS, picture_format, None, says)) == says


@pytest.mark.parametrize(("picture_format", "quality"), [*((each, None) for each in FORMATS), ("webp", 100)])
def test_the_same_is_the_same_bytes(picture_format: Format, quality: int | None) -> None:
    assert encode(PIXELS, picture_format, quality, SAYS) == encode(PIXELS.copy(), picture_format, quality, SAYS)


@pytest.mark.parametrize("picture_format", FORMATS)
def test_a_file_that_is_to_say_nothing_says_nothing(picture_format: Format) -> None:
    data = encode(PIXELS, picture_format)
    assert not {"exif", "parameters", "stablediffusiond", "comment"} & Image.open(io.BytesIO(data)).info.keys()
    assert b"EXIF" not in data
    with pytest.raises(InvalidRequest, match="does not say how it was drawn"):
        read(data)


@pytest.mark.parametrize("picture_format", ["jpeg", "webp"])
def test_who_saves_it_again_with_its_exif_keeps_it(picture_format: Format) -> None:
    picture = Image.open(io.BytesIO(encode(PIXELS, picture_format, None, SAYS)))
    again = io.BytesIO()
    picture.save(again, "JPEG", exif=picture.getexif())
    assert read(again.getvalue()) == SAYS


def test_letters_that_latin_1_has_are_in_a_chunk_that_every_reader_knows() -> None:
    assert b"tEXtparameters\0a caf\xe9" in encode(PIXELS, says=Metadata("a café"))
    assert "iTXtparameters\0\0\0\0\0猫".encode() in encode(PIXELS, says=Metadata("猫"))


def test_a_jpeg_keeps_the_text_where_it_has_no_room_for_both() -> None:
    both, neither = Metadata("a" * 30_000, "b" * 30_000), Metadata("a" * 40_000, "b" * 30_000)
    assert fitting_jpeg(SAYS) == SAYS
    assert fitting_jpeg(both) == Metadata("a" * 30_000)
    assert fitting_jpeg(neither) == Metadata()
    for says in (both, neither):
        encode(PIXELS, "jpeg", None, says)


def exif_of(comment: bytes, order: str = ">", note: bytes = b"") -> bytes:
    """A JPEG by another program."""
    block = Image.Exif()
    block.endian = order
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    if note:
        block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = note
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", exif=block)
    return out.getvalue()


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"), b"UNICODE\0" + TEXT.encode("utf-16-le"), b"ASCII\0\0\0" + TEXT.encode(),
        bytes(8) + TEXT.encode(), TEXT.encode(),
    ],
)  # fmt: skip
def test_other_programs_comments_are_read(comment: bytes, order: str) -> None:
    assert read(exif_of(comment, order, note=b"Nikon\0\1\2")) == Metadata(TEXT)


def test_text_behind_the_pixels_and_a_gifs_comment_are_read() -> None:
    data = encode(PIXELS)
    chunk = b"tEXtparameters\0" + TEXT.encode()
    late = data[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:]
    assert read(late) == Metadata(TEXT)
    gif = io.BytesIO()
    Image.new("P", (8, 8)).save(gif, "GIF", comment=TEXT.encode())
    assert read(gif.getvalue()) == Metadata(TEXT)


def test_another_programs_notes_are_called_what_they_are() -> None:
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("workflow", "{}")
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=chunks)
    with pytest.raises(InvalidRequest, match="what ComfyUI wrote into it is not read"):
        read(out.getvalue())


def with_exif(block: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "WEBP", exif=block)
    return out.getvalue()


WHOLE = as_exif(SAYS)
MANY_TAGS = b"MM\0*" + struct.pack(">IH", 8, 65_535) + struct.pack(">HHII", 0x9286, 7, 60_000, 8) * 65_535


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is no PNG"),
        (b"a cat", "is no PNG"),
        (encode(PIXELS, says=SAYS)[:60], "is broken|does not say"),
        (with_exif(b"rubbish"), "is broken: its EXIF has no byte order"),
        (with_exif(b"MM\0*"), "is broken"),
        (with_exif(WHOLE[:-60]), "is broken: its EXIF is cut off"),
        (with_exif(MANY_TAGS), "more than 1000 tags"),
        (encode(PIXELS, says=Metadata("a" * 1_000_001)), "more than 1000000 characters|broken"),
        (exif_of(b"ASCII\0\0\0", note=b"stablediffusiond\0\xff"), "is broken"),
    ],
)
def test_a_broken_or_hostile_file_is_a_clear_error(data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read(data)


def test_text_that_grows_when_it_is_unpacked_is_given_up() -> None:
    chunk = b"zTXtparameters\0\0" + zlib.compress(bytes(300_000_000))
    data = encode(PIXELS)
    bomb = data[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    with pytest.raises(InvalidRequest, match="is broken"):
        read(bomb)


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_no_block_ends_in_anything_else(rubbish: bytes, at: int) -> None:
    for block in (rubbish, WHOLE[:at] + rubbish, WHOLE[:at] + rubbish + WHOLE[at + len(rubbish) :]):
        try:
            exif.read(block)
        except (ValueError, struct.error):
            continue


@given(st.sampled_from(FORMATS), st.data())
def test_no_file_ends_in_anything_else(picture_format: Format, data: st.DataObject) -> None:
    whole = encode(PIXELS, picture_format, None, SAYS)
    at, rubbish = data.draw(st.integers(0, len(whole))), data.draw(st.binary(max_size=8))
    try:
        read(whole[:at] + rubbish + whole[at + len(rubbish) :])
    except JobError:
        return
