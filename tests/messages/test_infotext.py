"""A1111's grammar, both ways; what its own code finds is worked out with its own expression."""

import json
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stablediffusiond.messages import infotext
from stablediffusiond.messages.infotext import Infotext

#: ``re_param`` of A1111's infotext_utils.
THEIRS = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=30).map(str.strip)
PROMPTS = st.lists(LINES.filter(lambda line: not line.startswith("Negative prompt:")), max_size=4).map("\n".join)
KEYS = st.from_regex(r"\w[\w \-/]{0,20}[\w\-/]", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda each: each == each.strip())


def theirs(line: str) -> list[tuple[str, str]]:
    return [(key, unquoted(value)) for key, value in THEIRS.findall(line)]


def unquoted(value: str) -> str:
    if not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


@given(st.text(st.sampled_from('ab1: ,"\\-/(.é\t'), max_size=40))
@example('Lora hashes: "ink: 0f3a, oil: 99", Version: v1.10.1')
@example('ab: "\\", cd: 1')
def test_what_it_finds_in_a_line_is_what_a1111_finds(line: str) -> None:
    assert infotext._parameters(line) == theirs(line)


@given(PROMPTS, PROMPTS, st.dictionaries(KEYS, VALUES, min_size=3, max_size=6))
def test_what_is_written_is_read(prompt: str, negative: str, parameters: dict[str, str]) -> None:
    # What A1111's own text cannot say: blank lines at the ends, and values that are half of a quotation.
    parameters = {key: value for key, value in parameters.items() if '"' not in value or re.search("[,:\n]", value)}
    parameters |= {"Steps": "20", "Seed": "1", "Size": "64x64"}
    text = Infotext(prompt.strip(), negative.strip(), parameters)
    assert infotext.read(infotext.write(text)) == text


def test_it_looks_as_a1111_writes_it() -> None:
    parameters = {"Steps": "20", "Sampler": "Euler a", "Model": "a, b", "Seed": "1"}
    text = infotext.write(Infotext("a cat,\n(red:1.3)", "a dog", parameters))
    assert text == 'a cat,\n(red:1.3)\nNegative prompt: a dog\nSteps: 20, Sampler: Euler a, Model: "a, b", Seed: 1'


def test_a_last_line_with_fewer_than_three_parameters_is_one_of_the_prompt() -> None:
    assert infotext.read("a cat\ncolour: red, size: big") == Infotext("a cat\ncolour: red, size: big", "", {})


def test_a_negative_prompt_may_have_lines() -> None:
    read = infotext.read("cat\nNegative prompt: dog\nbird\nSteps: 1, Seed: 2, Size: 64x64")
    assert (read.prompt, read.negative_prompt) == ("cat", "dog\nbird")


@pytest.mark.parametrize("part", ["a ", "ab:", 'ab:"', 'ab:"\\",', "-", ":", '\\"', " ", '"a', "\n", "a:b,"])
def test_no_text_takes_longer_than_its_length(part: str) -> None:
    begun = time.process_time()
    infotext.read(part * (200_000 // len(part)))
    assert time.process_time() - begun < 5  # A1111's own expression takes minutes for some of them
