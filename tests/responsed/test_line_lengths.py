"""How long a line can be, as docs/protocol.md says it under "How long a line is"."""

import asyncio
import json
from typing import Final

import pytest

from stablediffusiond import frames
from stablediffusiond.broker.message import Delivery, HeaderValue, Message
from stablediffusiond.messages.replies import Done, ImageFacts
from stablediffusiond.messages.request import MAX_PROMPT_CHARACTERS
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import ReplyAddress
from stablediffusiond.responsed import lines
from stablediffusiond.settings import LimitSettings
from tools.daemons import CHECKOUT

KIB: Final = 1024
WHERE = ReplyAddress("i" * 200, "results." + "q" * 200, "c" * 255)
#: What JSON needs most bytes for, by the bytes of UTF-8 that it has in AMQP.
WORST = "\x01"
FRAME_BYTES: Final = 128 * KIB  #: of AMQP, that a message's headers have to fit into


class NoChannel:
    def ack(self, tag: int) -> None: ...
    def requeue(self, tag: int) -> None: ...


def line(message: Message, encoding: frames.Encoding = "binary") -> bytes:
    delivery = Delivery(message, "results", 2**63, redelivered=True, channel=NoChannel())
    reply = lines.reply(delivery, 2**63)
    return b"".join(reply.encode(encoding)).partition(b"\n")[0] + b"\n"


def facts(prompt: str, negative_prompt: str) -> ImageFacts:
    return ImageFacts(
        id="i" * 200, index=15, count=16, type="img2img", prompt=prompt, negative_prompt=negative_prompt, seed=2**64 - 1,
        width=1024, height=1024, steps=150, guidance_scale=7.123456789, sampler="DPM++ 2S Exponential", strength=0.123456789,
        eta=0.123456789, model="m" * 255,
    )  # fmt: skip


def test_a_picture_with_ordinary_prompts_is_a_short_line_in_binary() -> None:
    assert len(line(reply_messages.image(WHERE, facts("p" * 1500, "n" * 500), b"png", "image/png"))) < 4 * KIB


@pytest.mark.parametrize("character", ["é", "漢", "🐈", "\u2028"])
def test_prompts_of_ten_thousand_characters_in_all_fit_into_64_kib(character: str) -> None:
    half = character * (MAX_PROMPT_CHARACTERS // 2)
    assert len(line(reply_messages.image(WHERE, facts(half, half), b"png", "image/png"))) <= 64 * KIB


def test_no_picture_of_ours_has_a_line_of_more_than_128_kib_in_binary() -> None:
    whole = WORST * MAX_PROMPT_CHARACTERS
    assert 64 * KIB < len(line(reply_messages.image(WHERE, facts(whole, whole), b"png", "image/png"))) < 128 * KIB


def test_in_base64_a_picture_is_no_longer_than_our_client_reads() -> None:
    whole, png = WORST * MAX_PROMPT_CHARACTERS, b"x" * LimitSettings().max_reply_bytes
    assert (
        16 * KIB * KIB
        < len(line(reply_messages.image(WHERE, facts(whole, whole), png, "image/png"), "base64"))
        < frames.MAX_REPLY_LINE_BYTES
    )


def test_done_is_a_short_line_however_many_warnings_there_are() -> None:
    for warnings in (["w" * 100] * 50_000, ["w" * 1_000_000]):
        done = Done(id="i", images=1, queued_seconds=1, engine_seconds=1, total_seconds=1, warnings=warnings)
        written = json.loads(line(reply_messages.done(WHERE, done)))["warnings"]
        assert written[-1].endswith(f"… and {len(warnings) - len(written)} warnings more")
        assert len(line(reply_messages.done(WHERE, done))) < 16 * KIB


@pytest.mark.parametrize("kind", ["image", "message"])
def test_no_message_of_anybodys_has_a_line_of_more_than_one_mib_in_binary(kind: str) -> None:
    facts: dict[str, HeaderValue] = {
        "id": "i", "index": 0, "count": 1, "job_type": "txt2img", "negative_prompt": "", "seed": 7, "width": 8, "height": 8,
        "steps": 3, "guidance_scale": 7.5, "sampler": "DDIM", "eta": 0.0, "model": "m", "prompt": WORST * FRAME_BYTES,
    }  # fmt: skip
    message = Message(b"x" * 100, WORST * 255, kind, WORST * 255, correlation_id=WORST * 255, headers=facts)
    assert len(line(message)) < KIB * KIB


@pytest.mark.parametrize(
    "value", ["\u2028" * 80_000, [1e15] * 50_000, "x" * 20_000_000], ids=["escaped", "numbers", "long"]
)
def test_long_json_of_others_follows_its_line(value: object) -> None:
    body = json.dumps({"x": value}, ensure_ascii=False).replace("1000000000000000.0", "1e15").encode()
    head = json.loads(line(Message(body, "application/json")))
    assert head.get("length", len(body)) == len(body)
    assert len(line(Message(body, "application/json"))) < KIB * KIB


async def test_a_reader_of_64_kib_reads_binary_and_not_base64() -> None:
    """asyncio's own limit."""
    message = reply_messages.image(WHERE, facts("p" * 1500, "n" * 500), b"x" * 100_000, "image/png")
    for encoding, fails in (("binary", False), ("base64", True)):
        reader = asyncio.StreamReader()
        reader.feed_data(line(message, "binary" if encoding == "binary" else "base64"))
        if fails:
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
        else:
            assert json.loads(await reader.readline())["length"] == 100_000


def test_the_numbers_are_in_the_docs() -> None:
    text = (CHECKOUT / "docs/protocol.md").read_text("utf-8")
    section = text.partition("### How long a line is")[2].partition("\n### ")[0]
    for limit in ("18 MiB", "4 KiB", "64 KiB", "128 KiB", "1 MiB", "10,000 characters", '"encoding":"binary"'):
        assert limit in section, limit
