"""The response daemon from start to end."""

import socket

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import BrokerSettings
from tests.preloaded import response_daemon
from tests.responsed.conftest import Client, Replies
from tools.daemons import DaemonFailed
from tools.private_broker import PrivateBroker


def test_sigterm_ends_it_and_unwritten_replies_stay(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology
) -> None:
    queue = f"{topology.results}.stays"
    with response_daemon(environment) as daemon:
        client = Client(daemon.wait_ready().port()).listen(queue, ack="manual", prefetch=1)
        replies = Replies(settings, topology)
        for index in range(3):
            replies.image(queue, index)
        client.receive()
        assert daemon.stop() == 0
        client.close()
    channel = replies.run(replies._connection.channel())
    left = [replies.run(channel.get(queue)) for _ in range(4)]
    assert [delivery and delivery.message.headers["index"] for delivery in left] == [0, 1, 2, None]
    replies.close()


def test_it_starts_at_once_after_it_was_killed(environment: dict[str, str], topology: Topology) -> None:
    with response_daemon(environment) as first:
        port = first.wait_ready().port()
        client = Client(port).listen(topology.results)
        first.kill()
        with response_daemon({**environment, "STABLEDIFFUSIOND_RESPONSES__PORT": str(port)}) as second:
            assert second.wait_ready().port() == port
        client.close()


def test_a_port_that_is_taken_is_an_error_that_helps(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with response_daemon({**environment, "STABLEDIFFUSIOND_RESPONSES__PORT": port}) as daemon:
            with pytest.raises(DaemonFailed, match="is another stablediffusion_responsed running"):
                daemon.wait_ready()
            assert daemon.process.returncode == 78


def test_it_is_ready_without_a_broker_and_listeners_are_told(absent_broker: PrivateBroker) -> None:
    environment = {"STABLEDIFFUSIOND_CONFIG": "", "STABLEDIFFUSIOND_BROKER__URL": absent_broker.url}
    with response_daemon(environment) as daemon:
        daemon.wait_ready().wait_status("is RabbitMQ running there")
        client = Client(daemon.port())
        client.send(op="listen", queue="results.early")
        assert client.receive_error() == "broker_away"
        absent_broker.start()
        client.socket.settimeout(60)
        assert client.receive().head["type"] == "listening"
        client.close()


def test_clients_outlive_the_broker(own_broker: PrivateBroker) -> None:
    environment = {"STABLEDIFFUSIOND_CONFIG": "", "STABLEDIFFUSIOND_BROKER__URL": own_broker.url}
    settings = BrokerSettings.model_validate({"url": own_broker.url})
    with response_daemon(environment) as daemon:
        daemon.wait_ready().wait_status("^0 clients$")
        client = Client(daemon.port()).listen("results.stays", ack="manual")
        replies = Replies(settings, Topology())
        replies.image("results.stays")
        assert client.receive().head["delivery"] == 1
        replies.close()
        own_broker.settle()
        own_broker.kill()
        daemon.wait_log("connection to the broker lost")
        own_broker.start()
        client.socket.settimeout(60)
        replies = Replies(settings, Topology())
        replies.image("results.stays", 1)
        second = client.receive().head
        assert (second["delivery"], second["index"]) == (2, 1), "what the client has is not sent again"
        for number in (1, 2):
            client.send(op="ack", delivery=number)
        client.send(op="ping")
        assert client.receive().head["type"] == "pong"
        client.close()
        daemon.stop()  # what was not acked would be in its queue again
        assert replies.waiting("results.stays") == 0
        replies.close()
