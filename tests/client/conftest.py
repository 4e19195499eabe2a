import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pika
import pytest
from pydantic import SecretStr

from stablediffusiond.client import Client
from stablediffusiond.settings import BrokerSettings, QueueSettings, ResponseSettings, Settings
from tests.client.away import ServiceWithOutage
from tests.client.fake_daemons import FakeDaemons, fake_daemons
from tests.client.fake_responses import FakeResponses
from tests.client.proxy import Proxy
from tests.client.running import Run, Running
from tools.private_broker import PrivateBroker


@pytest.fixture
def responses() -> Iterator[FakeResponses]:
    made = FakeResponses()
    yield made
    made.leave()


@pytest.fixture
def settings(broker: PrivateBroker, responses: FakeResponses) -> Settings:
    """Of a service of its own, so that tests share nothing but the broker."""
    name = uuid.uuid4().hex[:12]
    return Settings(
        broker=BrokerSettings(url=SecretStr(broker.url)),
        queues=QueueSettings(requests=f"sd-{name}", results=f"results-{name}"),
        responses=ResponseSettings(host="127.0.0.1", port=responses.port),
    )


@pytest.fixture
def daemons(settings: Settings, responses: FakeResponses) -> Iterator[FakeDaemons]:
    with fake_daemons(settings, responses) as made:
        yield made


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as made:
        yield made


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    return partial(Running, settings, tmp_path)


@pytest.fixture
def proxy(settings: Settings) -> Iterator[Proxy]:
    url = pika.URLParameters(settings.broker.url.get_secret_value())
    with Proxy(url.host, url.port) as made:
        yield made


@pytest.fixture
def through_proxy(settings: Settings, proxy: Proxy) -> Settings:
    """The same service, with the broker behind the proxy."""
    broker = BrokerSettings(url=SecretStr(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"))
    return settings.model_copy(update={"broker": broker})


@pytest.fixture
def service(
    settings: Settings, responses: FakeResponses, proxy: Proxy, daemons: FakeDaemons, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServiceWithOutage]:
    made = ServiceWithOutage(settings, responses, proxy, monkeypatch)
    yield made
    made.come_back()
