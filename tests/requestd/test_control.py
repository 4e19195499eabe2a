import codecs
import logging
from typing import cast

import pytest

from stablediffusiond.broker.message import Message
from stablediffusiond.messages.status import Offer, WorkerStatus
from stablediffusiond.requestd.control import Control
from stablediffusiond.requestd.reply_publisher import ReplyPublisher


def nothing() -> WorkerStatus:
    raise AssertionError


def no_offer() -> Offer:
    raise AssertionError("nobody asks")


@pytest.fixture
def cancelled() -> list[str]:
    return []


@pytest.fixture
def control(cancelled: list[str]) -> Control:
    return Control(cancelled.append, nothing, no_offer, cast("ReplyPublisher", None))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_cancellation_is_obeyed_with_a_byte_order_mark_or_without(
    control: Control, cancelled: list[str], mark: bytes
) -> None:
    control.on_message(Message(mark + b'{"cancel": "job"}'))
    assert cancelled == ["job"]


@pytest.mark.parametrize(
    "body", [b"", b"cat", b"[]", b'{"cancel": ""}', b'{"cancel": 1}', b"\xff", '{"cancel": "x"}'.encode("utf-16")]
)
def test_what_is_not_understood_is_told_and_changes_nothing(
    control: Control, cancelled: list[str], body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        control.on_message(Message(body))
    assert not cancelled
    assert "a control message is not understood" in caplog.text
