"""A quorum queue that loses its leader: as after a crash, a damaged disk, or with most of its nodes away."""

from typing import Literal

from tools.private_broker import PrivateBroker

#: ``stopped``: the broker refuses what concerns the queue, often with the end of the connection; ``silent``: it says nothing.
Loss = Literal["stopped", "silent"]

_ENDS: dict[Loss, str] = {
    "stopped": "ra:stop_server(quorum_queues, {%s, node()}).",
    "silent": "sys:suspend(whereis(%s)).",
}
_RETURNS: dict[Loss, str] = {
    "stopped": "ra:restart_server(quorum_queues, {%s, node()}).",
    "silent": "sys:resume(whereis(%s)).",
}


class QueueLeader:
    """The process of ``queue`` on a broker that is one node."""

    def __init__(self, broker: PrivateBroker, queue: str, loss: Loss = "stopped") -> None:
        self._broker = broker
        self._name = f"'%2F_{queue}'"
        self._loss = loss

    def lose(self) -> None:
        self._broker.evaluate(_ENDS[self._loss] % self._name)

    def bring_back(self) -> None:
        self._broker.evaluate(_RETURNS[self._loss] % self._name)
