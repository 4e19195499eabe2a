import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr

from stablediffusiond.client import Client, Done, Image
from stablediffusiond.errors import BrokerAway, BrokerLost, ResponsesAway
from stablediffusiond.settings import BrokerSettings, Settings
from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.proxy import Proxy


def test_a_lost_socket_is_made_again_and_nothing_is_lost_or_repeated(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat", count=3)
    request = daemons.take()
    daemons.draw(request, 0, 1, count=3)
    events = job.events()
    first = next(events)
    responses.cut()
    daemons.draw(request, 2, count=3)
    daemons.finish(request)
    rest = list(events)
    assert [event.facts.index for event in (first, *rest) if isinstance(event, Image)] == [0, 1, 2]
    assert isinstance(rest[-1], Done)
    listens = [responses.listens.get(timeout=PATIENCE_SECONDS) for _ in range(2)]
    assert listens[0] == listens[1]


def test_a_daemon_that_dies_inside_a_picture_is_no_end(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat")
    request = daemons.take()
    responses.write(client.queue, b'{"type":"image","delivery":99,"length":1000}\nhalf of')
    responses.cut()
    daemons.draw(request, 0)
    daemons.finish(request)
    assert [type(event) for event in job.events()] == [Image, Done]


def test_a_client_waits_for_a_response_daemon_that_restarts(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat")
    responses.leave()
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: list(job.events()))
        daemons.finish(daemons.take())
        responses.come_back()
        assert [type(event) for event in reading.result(PATIENCE_SECONDS)] == [Done]


def test_a_response_daemon_that_stays_away_is_an_error_after_which_one_may_go_on(
    settings: Settings, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    with Client(settings, reconnect_seconds=0.2) as client:
        job = client.submit(prompt="cat")
        responses.leave()
        with pytest.raises(ResponsesAway, match="is stablediffusion_responsed running there"):
            list(job.events())
        responses.come_back()
        daemons.finish(daemons.take())
        assert [type(event) for event in job.events()] == [Done]


def test_nobody_connects_again_while_nobody_reads(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat")
    responses.leave()  # its connections have ended when this returns
    responses.come_back()
    assert responses.listens.qsize() == 1
    daemons.finish(daemons.take())
    list(job.events())
    assert responses.listens.qsize() == 2


def test_the_broker_connection_is_made_again_for_the_next_job(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    with Client(through_proxy) as client:
        client.enqueue(prompt="cat")
        proxy.cut()
        client.enqueue(prompt="dog")
    assert [daemons.take().fields["prompt"] for _ in range(2)] == ["cat", "dog"]


def test_a_publish_in_doubt_is_published_again_under_the_same_id(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    with Client(through_proxy) as client, ThreadPoolExecutor() as pool:
        client.enqueue(prompt="cat")
        assert daemons.take().fields["prompt"] == "cat"
        proxy.swallow_answers()
        publishing = pool.submit(client.enqueue, prompt="dog")
        first = daemons.take()  # the broker has it; its confirm is lost on the way
        proxy.cut()
        assert publishing.result(PATIENCE_SECONDS) == first.id
        second = daemons.take()
    assert first.properties.message_id == second.properties.message_id
    assert first.fields == second.fields


def test_a_broker_that_stays_away_is_an_error_in_the_end(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    with Client(through_proxy, reconnect_seconds=0.3) as client:
        client.enqueue(prompt="cat")
        proxy.leave()
        with pytest.raises(BrokerAway, match=r"gave up after 0\.3 s"):
            client.enqueue(prompt="dog")


def test_closing_while_a_publish_is_under_way_ends_it(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    client = Client(through_proxy)
    client.enqueue(prompt="cat")
    daemons.take()
    proxy.swallow_answers()
    with ThreadPoolExecutor() as pool:
        publishing = pool.submit(client.enqueue, prompt="dog")
        daemons.take()
        closing = pool.submit(client.close)
        with pytest.raises(BrokerLost, match="in doubt"):
            publishing.result(PATIENCE_SECONDS)
        proxy.cut()
        closing.result(PATIENCE_SECONDS)


BROKER_AWAY = b'{"type":"error","code":"broker_away","message":"replies will come when it is back"}\n'


def test_a_response_daemon_that_has_yet_to_find_its_broker_is_waited_for(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    responses.first_error = BROKER_AWAY
    with ThreadPoolExecutor() as pool:
        submitting = pool.submit(client.submit, prompt="cat")
        responses.broker_is_back.set()
        job = submitting.result(PATIENCE_SECONDS)
    daemons.finish(daemons.take())
    assert [type(event) for event in job.events()] == [Done]


def test_a_response_daemon_that_does_not_find_its_broker_is_an_error(
    settings: Settings, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    responses.first_error = BROKER_AWAY
    with Client(settings, reconnect_seconds=0.1) as client, pytest.raises(ResponsesAway, match="when it is back"):
        client.submit(prompt="cat")
    responses.broker_is_back.set()


def test_where_both_have_no_broker_it_is_told_at_once(
    settings: Settings, responses: FakeResponses, free_port: int
) -> None:
    responses.first_error = BROKER_AWAY
    broker = BrokerSettings(url=SecretStr(f"amqp://127.0.0.1:{free_port}/"))
    with Client(settings.model_copy(update={"broker": broker})) as client, pytest.raises(BrokerAway, match="RabbitMQ"):
        client.submit(prompt="cat")
    responses.broker_is_back.set()


def test_a_silent_port_is_not_waited_for_for_ever(settings: Settings, daemons: FakeDaemons) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        there = settings.responses.model_copy(update={"port": silent.getsockname()[1], "handshake_seconds": 0.1})
        with (
            Client(settings.model_copy(update={"responses": there})) as client,
            pytest.raises(ResponsesAway, match="timed out"),
        ):
            client.submit(prompt="cat")


def test_no_thread_is_left_behind(settings: Settings, daemons: FakeDaemons) -> None:
    with Client(settings) as client:
        client.submit(prompt="cat")
        names = {thread.name for thread in threading.enumerate()}
        assert "stablediffusiond client" in names
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("stablediffusiond")]
