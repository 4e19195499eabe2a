import base64
import io
import textwrap
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request


def png() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((24, 24), 80).save(out, "PNG")
    return out.getvalue()


PICTURE = png() + b"\xfb\xff\xfe"  # so that the base64 has + and / in it, and padding
while len(PICTURE) % 3 != 1:
    PICTURE += b"\0"
PLAIN = base64.b64encode(PICTURE).decode()
URL_SAFE = base64.urlsafe_b64encode(PICTURE).decode()
assert set("+/=") <= set(PLAIN)
assert set("-_") <= set(URL_SAFE)


def image_of(text: object) -> bytes | None:
    return Request.from_fields({"prompt": "cat", "image": text})[0].image


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        base64.encodebytes(PICTURE).decode(),
        "\r\n".join(textwrap.wrap(PLAIN, 76)) + "\r\n",
        f"  \t{PLAIN}\n\n",
        PLAIN.rstrip("="),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        f"data:image/png;base64,{PLAIN}",
        f"data:image/png;name=cat%20one.png;base64,{PLAIN}",
        f"data:image/png;charset=utf-8;base64,{URL_SAFE.rstrip('=')}",
        f"DATA:image/PNG;BASE64,{PLAIN}",
        f"data:;base64,{PLAIN}",
        f"data:image/png;base64, {PLAIN}",
        f"data:image/png;base64,{urllib.parse.quote(PLAIN, safe='')}",
        f"data:image/png;base64,{urllib.parse.quote(PLAIN)}",
        f"data:image/png;base64,{PLAIN.replace('=', '%3d')}",
        f'"{PLAIN}"',
        f"'{PLAIN}'",
        str(base64.b64encode(PICTURE)),
        f'"data:image/png;base64,{PLAIN}"',
        f"\ufeff{PLAIN}",
    ],
    ids=range(21),
)
def test_base64_as_the_libraries_of_many_languages_give_it(text: str) -> None:
    assert image_of(text) == PICTURE


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_bytes_themselves(kind: type) -> None:
    assert image_of(kind(PICTURE)) == PICTURE


@pytest.mark.parametrize(
    "text",
    [
        "/etc/passwd", "", "cat_1", "a/b-c", "catpng", "../../x.ckpt", "file:///etc/passwd", "https://example.org/a.png",
        "\\\\host\\share", "data:image/png,x", "data:image/png;base64", "data:", "d", '"', "''", "b'", "ä", "=", "a=b=c=d",
        f"{PLAIN}={PLAIN}", PLAIN[:-3], f"data:text/html,{PLAIN}", "blob:https://example.org/1", "%41",
    ],
)  # fmt: skip
def test_what_is_no_base64_of_a_picture_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        image_of(text)
    assert caught.value.field == "image"


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["", "\n", " "]))
def test_any_bytes_come_back(data: bytes, between: str) -> None:
    assert image_of(between.join(base64.b64encode(data).decode())) == data


@given(st.text(max_size=60))
def test_any_text_is_a_picture_or_a_named_complaint(text: str) -> None:
    try:
        image_of(text)
    except InvalidRequest as error:
        assert error.field == "image"
