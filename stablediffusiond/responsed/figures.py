"""What the response daemon tells Prometheus; each is explained in docs/operations.md."""

from collections.abc import Iterator
from typing import Final

from stablediffusiond.broker.link import Link
from stablediffusiond.metrics import Counter, Figure, Gauge
from stablediffusiond.responsed.server import Server

_NAME: Final = "stablediffusion_responsed"


class Figures:
    """Looks at the parts when asked."""

    def __init__(self, server: Server, inlet: Link, outlet: Link) -> None:
        self._server = server
        self._links = {"reads": inlet, "cancels": outlet}

    def __call__(self) -> Iterator[Figure]:
        reconnects = {name: link.reconnects for name, link in self._links.items()}
        yield Gauge(f"{_NAME}_connections", "Clients that are connected", self._server.clients)
        yield Counter(f"{_NAME}_turned_away", "Clients that were one too many", self._server.turned_away)
        yield Counter(f"{_NAME}_replies", "Lines that clients have taken", self._server.written, "type")
        yield Counter(f"{_NAME}_reconnects", "Connections made anew", reconnects, "link")
