"""What is said to all request daemons at once: cancel a job, say how you are."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pydantic import TypeAdapter, ValidationError

from stablediffusiond.broker.message import Message
from stablediffusiond.errors import UnreadableMessage
from stablediffusiond.messages.replies import Cancel
from stablediffusiond.messages.status import Ask, Offer, WorkerStatus
from stablediffusiond.messages.text import decode
from stablediffusiond.requestd.reply_publisher import ReplyPublisher

log = logging.getLogger(__name__)

_WORDS: Final[TypeAdapter[Cancel | Ask]] = TypeAdapter(Cancel | Ask)
#: Answers on their way at once; while the broker takes none, more questions are not answered.
_ANSWERS_AT_ONCE: Final = 16


class Control:
    """Obeys and answers."""

    def __init__(
        self,
        cancel: Callable[[str], None],
        status: Callable[[], WorkerStatus],
        offer: Callable[[], Offer | None],
        replies: ReplyPublisher,
    ) -> None:
        """``offer`` looks into files."""
        self._cancel = cancel
        self._status = status
        self._offer = offer
        self._replies = replies
        self._answering: set[asyncio.Task[None]] = set()

    def on_message(self, message: Message) -> None:
        try:
            word = _WORDS.validate_json(decode(message.body, "it"))
        except ValidationError as error:
            log.warning("a control message is not understood: %s", error.errors(include_url=False)[0]["msg"])
            return
        except UnreadableMessage as error:
            log.warning("a control message is not understood: %s", error)
            return
        match word:
            case Cancel(cancel=job_id):
                self._cancel(job_id)
            case Ask(offer=offer):
                self._answer(message, offer=offer)

    def _answer(self, question: Message, *, offer: bool) -> None:
        if question.reply_to is None or len(self._answering) >= _ANSWERS_AT_ONCE:
            log.debug("a question is not answered: it says not whom, or too many were asked")
            return
        answer = self._say(question.reply_to, question.correlation_id, offer=offer)
        task = asyncio.create_task(answer, name="answering how we are")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _say(self, reply_to: str, correlation_id: str | None, *, offer: bool) -> None:
        status = self._status()
        if offer:
            status = status.model_copy(update={"offer": await asyncio.to_thread(self._offer)})
        await self._replies.answer(reply_to, correlation_id, status)
