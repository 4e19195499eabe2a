"""A1111's dialect, by the examples of its manual."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.prompt_syntax import check, is_plain, parse


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("unbalanced)", [("unbalanced)", 1)]),
        (r"\(literal\]", [("(literal]", 1)]),
        (r"back\\slash", [(r"back\slash", 1)]),
        (r"C:\dir", [(r"C:\dir", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("[weak]", [("weak", 1 / 1.1)]),
        ("(a:0.5)", [("a", 0.5)]),
        ("(a: 1.5 )", [("a", 1.5)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:.5) (b:-1)", [("a", 0.5), (" ", 1), ("b", -1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
             ("sky", 1.4641), (".", 1.1)],
        ),
        ("", []),
        ("at 5:30", [("at 5:30", 1)]),
    ],
)  # fmt: skip
def test_weights(prompt: str, pieces: list[tuple[str, float]]) -> None:
    [chunk] = parse(prompt)
    assert [piece.text for piece in chunk] == [text for text, _ in pieces]
    assert [piece.weight for piece in chunk] == pytest.approx([weight for _, weight in pieces])


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("a cat BREAK a dog", [["a cat"], ["a dog"]]),
        ("a cat\nBREAK\n(a dog)", [["a cat"], ["a dog"]]),
        ("BREAKFAST", [["BREAKFAST"]]),
        ("(a BREAK b)", [["a"], ["b"]]),
    ],
)
def test_chunks(prompt: str, chunks: list[list[str]]) -> None:
    assert [[piece.text for piece in chunk] for chunk in parse(prompt)] == chunks


@pytest.mark.parametrize(
    "prompt", ["a cat AND a dog", "a [cat:dog:0.5]", "[cat:5]", "[cat::10]", "([a|b:1.2])", "[[a:b:3] c]"]
)
def test_what_is_not_done_is_refused(prompt: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(prompt, "negative_prompt")
    assert caught.value.field == "negative_prompt"


@pytest.mark.parametrize(
    "prompt", ["sand and sea", "SAND", r"\[cat:dog:0.5\]", "[a cat]", "a | b", "(a:0.5)", "[(a:1.2), b]", "] [ AN D"]
)
def test_what_looks_like_it_is_not(prompt: str) -> None:
    check(prompt, "prompt")


@given(st.text(alphabet="ab (){}[]:\\.12BREAK|", max_size=60))
def test_any_text_can_be_read_and_plain_text_is_itself(prompt: str) -> None:
    chunks = parse(prompt)
    if is_plain(prompt):
        assert "".join(piece.text for chunk in chunks for piece in chunk) == prompt
        assert all(piece.weight == 1 for chunk in chunks for piece in chunk)
