import codecs

import pytest

from stablediffusiond.errors import UnreadableMessage
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import Request

BODY = '{"prompt": "ein Käse", "steps": 12}'


def test_a_mark_before_a_body_is_no_part_of_it() -> None:
    assert parse(codecs.BOM_UTF8 + BODY.encode()) == parse(BODY.encode())


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_another_encoding_is_called_what_it_is(encoding: str, mark: str) -> None:
    with pytest.raises(UnreadableMessage, match="UTF-16 or UTF-32"):
        parse((mark + BODY).encode(encoding))


def test_a_mark_before_a_name_or_a_text_is_no_part_of_it() -> None:
    made, _ = Request.from_fields(
        {"\ufeffprompt": "\ufeffcat", "negative_prompt": "\ufeffdog", "sampler": "\ufeffEuler", "seed": "\ufeff42"}
    )
    assert (made.prompt, made.negative_prompt, made.sampler, made.seed) == ("cat", "dog", "Euler", 42)


def test_an_id_is_given_back_as_it_came() -> None:
    assert Request.from_fields({"prompt": "cat", "id": "\ufeffjob"})[0].id == "\ufeffjob"


def test_a_mark_within_a_text_stays() -> None:
    assert Request.from_fields({"prompt": "a\ufeffb"})[0].prompt == "a\ufeffb"
