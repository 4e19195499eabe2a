"""The settings of a client beside a private broker and a response daemon at a free port."""

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import Settings


def client_settings(broker_url: str, topology: Topology, responses_port: int) -> Settings:
    return Settings.model_validate(
        {
            "broker": {"url": broker_url},
            "queues": {"requests": topology.requests, "results": topology.results},
            "responses": {"host": "127.0.0.1", "port": responses_port},
        }
    )
