"""What the response daemon tells Prometheus; each is explained in docs/operations.md."""

from collections.abc import Iterator
from typing import Final

from stablediffusiond.broker.link import Link
from stablediffusiond.metrics import CounterMetric, GaugeMetric, Metric
from stablediffusiond.responsed.server import Server

_NAME: Final = "stablediffusion_responsed"


class ResponseMetrics:
    """Looks at the parts when asked."""

    def __init__(self, server: Server, consume_link: Link, publish_link: Link) -> None:
        self._server = server
        self._links = {"reads": consume_link, "cancels": publish_link}

    def __call__(self) -> Iterator[Metric]:
        reconnects = {name: link.reconnects for name, link in self._links.items()}
        yield GaugeMetric(f"{_NAME}_connections", "Clients that are connected", self._server.clients)
        yield CounterMetric(f"{_NAME}_turned_away", "Clients that were one too many", self._server.turned_away)
        yield CounterMetric(f"{_NAME}_replies", "Lines that clients have taken", self._server.written, "type")
        yield CounterMetric(f"{_NAME}_reconnects", "Connections made anew", reconnects, "link")
