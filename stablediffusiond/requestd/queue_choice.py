"""From which queues a daemon takes a job now, and with which consumer priority: the policy, without a broker.

RabbitMQ gives a job to a consumer of the highest priority that has room for it. So the model queues bring a job to a
daemon that has its model; where all of those are full, to one that loads it already; and else to any that may load it:

- a model that is here (*resident*): with priority 10, while a job would begin at once (``prefetch.py``);
- one that jobs wait for here: with priority 5, so that all its jobs come to one daemon and it is loaded once;
- any other: with priority 0, or -1 where a model is waited for here already, so that a daemon that loads nothing comes
  first; and only while few models are waited for here. What is delivered can be had by no other daemon any more, so a
  daemon takes no more of such jobs than it needs to decide what is loaded next.
"""

from collections.abc import Callable, Collection
from typing import Final, Protocol

from stablediffusiond.broker.topology import RequestQueue
from stablediffusiond.engine.job import Kind
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.prefetch import PrefetchPolicy, UnfinishedJob
from stablediffusiond.requestd.waiting_jobs import WaitingJobs

RESIDENT: Final = 10
WAITED_FOR: Final = 5
ABSENT: Final = 0
ABSENT_BESIDE_OTHERS: Final = -1

#: Models that are waited for here at the same time; those of jobs of high priority count by themselves.
MOST_WAITED_FOR: Final = 6
#: Jobs that wait here for one model.
MOST_WAITING: Final = 16


class Models(Protocol):
    """The models of this daemon, as far as this is about them."""

    @property
    def names(self) -> Collection[str]:
        """Those that are on the device."""
        ...

    @property
    def waiting(self) -> WaitingJobs: ...

    def own_kind(self, model: str) -> Kind | None:
        """The own size of ``model``, if it is here."""
        ...

    def is_free(self, model: str) -> bool:
        """Whether a job may be drawn with ``model`` at once."""
        ...


class QueueChoice:
    """Looks at the models and at the unfinished jobs, and decides."""

    def __init__(
        self,
        models: Models,
        prefetch: PrefetchPolicy,
        *,
        unfinished: Callable[[], list[UnfinishedJob]],
        paused: Callable[[], bool],
        default: str,
    ) -> None:
        """``unfinished`` gives the jobs that are here, ``paused`` whether nothing is drawn just now."""
        self._models = models
        self._paused = paused
        self._prefetch = prefetch
        self._unfinished = unfinished
        self._default = default

    @property
    def near(self) -> set[str]:
        """The models that are here or waited for: for all others there is ``wants_absent``."""
        return {*self._models.names, *self._models.waiting.models}

    def priority(self, queue: RequestQueue) -> int | None:
        """With which consumer priority a job of ``queue`` is taken now; None: it is not."""
        if self._paused():
            return None
        model = self._default if queue.model is None else queue.model
        if self._models.is_free(model):
            may_take = self._prefetch.may_take(queue.priority, self._unfinished(), self._models.own_kind(model))
            return RESIDENT if may_take else None
        waiting = self._models.waiting
        if queue.model is None:
            return WAITED_FOR if len(waiting) < MOST_WAITING else None
        return WAITED_FOR if len(waiting.of(model)) < MOST_WAITING else None

    @property
    def absent_priority(self) -> int:
        """With which consumer priority a job is taken whose model is not here, and not waited for."""
        return ABSENT_BESIDE_OTHERS if self._models.waiting.models else ABSENT

    def wants_absent(self, priority: Priority) -> bool:
        """Whether a job of ``priority`` is taken whose model is not here, and not waited for."""
        waited_for = self._models.waiting.models_of(urgent_only=priority == "high")
        return not self._paused() and len(waited_for) < MOST_WAITED_FOR
