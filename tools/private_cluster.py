"""Three RabbitMQ nodes that are one broker: for tests of what becomes of us when one of them goes."""

import contextlib
from types import TracebackType
from typing import Final, Self

from tools.private_broker import BrokerUnavailable, PrivateBroker

#: A node that stands still is given up after about so long, in place of a minute.
_TICK_SECONDS: Final = 5
_ERLANG: Final = f"-kernel net_ticktime {_TICK_SECONDS}"
#: As docs/operations.md has it: a node that the others have lost keeps no view of its own.
_CONFIG: Final = "cluster_partition_handling = pause_minority\n"


class PrivateCluster:
    """``with PrivateCluster() as cluster: ... cluster.url``, which names all three."""

    def __init__(self, node: type[PrivateBroker] = PrivateBroker) -> None:
        """``node`` makes each of them."""
        self._node = node
        self._stack = contextlib.ExitStack()
        self.nodes: list[PrivateBroker] = []
        #: How many nodes were replaced, and how often one had to be told not to wait for the others.
        self.replacements = self.forced_boots = 0
        #: The last node that was replaced: it knows least of the others.
        self._replaced: PrivateBroker | None = None

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def leader_of(self, queue: str) -> PrivateBroker:
        """The node whose copy of ``queue`` the others follow."""
        listed = dict(self.nodes[-1].queues("name", "leader"))
        return next(node for node in self.nodes if node.node == listed[queue])

    def ports_in_use(self) -> set[int]:
        """The ports of the nodes that clients are connected to."""
        return {int(port) for port in self._list("list_connections", "port")}

    def start_all(self) -> None:
        """Start what does not run; the first of them waits for the others before it takes connections."""
        for node in self.nodes:
            node.launch()
        try:
            for node in self.nodes:
                node.wait_up()
        except BrokerUnavailable:
            self._force_boot()

    def _force_boot(self) -> None:
        """Do as RabbitMQ's manual says for nodes each of which waits for another that was up last, or that is gone.

        https://www.rabbitmq.com/docs/man/rabbitmqctl.8#force_boot
        """
        for node in self.nodes:
            node.kill()
        first, *others = sorted(self.nodes, key=lambda node: node is self._replaced)
        first.ctl("force_boot")
        for node in (first, *others):
            node.start()
        self.forced_boots += 1

    def replace(self, node: PrivateBroker) -> None:
        """Do as RabbitMQ's manual says for a node whose disk is lost or damaged: forget it, have an empty one join."""
        other = next(each for each in self.nodes if each is not node)
        self.replacements += 1
        self._replaced = node
        node.kill()
        other.ctl("forget_cluster_node", node.node)
        node.lose_data()
        node.start()
        other.ctl("grow", node.node, "all", program="rabbitmq-queues")
        node.settle()

    def _list(self, *arguments: str) -> list[str]:
        """What rabbitmqctl lists, asked of a node that is not the one that tests break first; without its heading."""
        return self.nodes[-1].ctl("--timeout", "20", *arguments).splitlines()[1:]

    def __enter__(self) -> Self:
        with self._stack as stack:
            first = stack.enter_context(self._node(config=_CONFIG, erlang=_ERLANG))
            others = [self._node(config=_CONFIG, erlang=_ERLANG, beside=first) for _ in range(2)]
            for node in others:
                stack.callback(node.stop)
                node.launch()
            for node in others:
                node.wait_up()
            self.nodes = [first, *others]
            for node in self.nodes:
                node.join_at_first_start(self.nodes)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
