import codecs
import io
import sys

import click
import pytest

from stablediffusiond.cli import request_arguments
from stablediffusiond.cli.request_arguments import Files

JSON = '{"prompt": "ein Käse", "seed": 42}'


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    return data


def given(stdin: io.BytesIO, data: bytes) -> str:
    stdin.write(data)
    stdin.seek(0)
    return request_arguments.read("-")


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_json_on_standard_input_is_json(stdin: io.BytesIO, mark: bytes, end: bytes) -> None:
    text = given(stdin, mark + JSON.encode() + end)
    assert request_arguments.is_json(text)
    request, _ = request_arguments.request(text, {}, Files())
    assert (request.prompt, request.seed) == ("ein Käse", 42)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_prompt_on_standard_input_is_its_text(stdin: io.BytesIO, mark: bytes) -> None:
    assert given(stdin, mark + "ein Käse\r\n".encode()) == "ein Käse"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_standard_input_in_another_encoding_is_called_what_it_is(stdin: io.BytesIO, encoding: str) -> None:
    with pytest.raises(click.UsageError, match="standard input is not UTF-8 but UTF-16 or UTF-32"):
        given(stdin, "a cat".encode(encoding))


def test_a_mark_before_the_argument_is_no_part_of_it() -> None:
    assert request_arguments.is_json(request_arguments.read("\ufeff" + JSON))
    assert request_arguments.read("\ufeffa cat") == "a cat"


@pytest.mark.parametrize(
    ("output", "options", "made"),
    [
        (None, {}, "png"), ("cat.jpg", {}, "jpeg"), ("cat.JPEG", {}, "jpeg"), ("{seed}.webp", {}, "webp"), ("cat", {}, "png"),
        ("-", {}, "png"), ("cat.gif", {}, "png"), ("cats.jpg/", {}, "png"), ("cat.jpg", {"format": "webp"}, "webp"),
        ("cat.jpg", {"format": None}, "jpeg"),
    ],
)  # fmt: skip
def test_a_suffix_asks_for_its_format_where_nothing_else_does(
    output: str | None, options: dict[str, object], made: str
) -> None:
    request, _ = request_arguments.request("a cat", options, Files(output=output))
    assert request.format == made


def test_the_format_of_json_stands_over_the_suffix() -> None:
    request, _ = request_arguments.request('{"prompt": "cat", "output_format": "png"}', {}, Files(output="cat.jpg"))
    assert request.format == "png"
