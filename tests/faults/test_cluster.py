"""A broker of three nodes, and one of them goes while jobs come in: it goes on with the other two."""

import asyncio
import contextlib
import itertools
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.requestd.queue_failures import QueueFailures
from stablediffusiond.requestd.request_queues import RequestQueues
from stablediffusiond.settings import BrokerSettings
from tests.faults.job_records import JobRecord
from tests.faults.service_under_test import ServiceUnderTest
from tools.private_broker import PrivateBroker
from tools.private_cluster import PrivateCluster

pytestmark = pytest.mark.usefixtures("new_records")

#: Jobs that nobody has answered; more than these end only if some were submitted, drawn and answered without the node.
OPEN = 6
#: A node that stands still takes connections and says nothing, so this is how long each try with it costs.
PATIENCE = {"STABLEDIFFUSIOND_BROKER__CONNECT_TIMEOUT_SECONDS": "2"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    with PrivateCluster() as made:
        yield made


@pytest.fixture(scope="module")
def service(cluster: PrivateCluster) -> Iterator[ServiceUnderTest]:
    with ServiceUnderTest(fake_denoiser=True, cluster=cluster, environment=PATIENCE) as made:
        yield made


@contextlib.contextmanager
def jobs_coming_in(service: ServiceUnderTest) -> Iterator[None]:
    stop = threading.Event()

    def submit() -> None:
        for kind in itertools.cycle(service.client.kinds):
            while not service.client.records.wait_for_room(OPEN, 0.5):
                if stop.is_set():
                    return
            if stop.is_set():
                return
            service.client.submit(kind)

    thread = threading.Thread(target=submit, name="submitter")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def wait_goes_on(service: ServiceUnderTest, timeout_seconds: float = 60) -> None:
    """Wait until so many jobs have ended that some of them came after now."""
    enough, deadline = service.client.records.ended + 2 * OPEN, time.monotonic() + timeout_seconds
    while service.client.records.ended < enough:
        assert time.monotonic() < deadline, f"only {service.client.records.ended} of {enough} have ended"
        time.sleep(0.05)


def check(service: ServiceUnderTest, reference: dict[str, JobRecord]) -> None:
    service.settle()
    service.check(reference)
    assert service.requestds[0].process.poll() is None


@pytest.mark.parametrize("leads", [True, False], ids=["the leader", "a follower"])
def test_a_node_dies(
    cluster: PrivateCluster, service: ServiceUnderTest, reference: dict[str, JobRecord], *, leads: bool
) -> None:
    leader = cluster.leader_of(service.topology.requests)
    dying = leader if leads else next(node for node in cluster.nodes if node is not leader)
    with jobs_coming_in(service):
        wait_goes_on(service)
        dying.kill()
        wait_goes_on(service)
        dying.launch()
        wait_goes_on(service)
    dying.wait_up()
    check(service, reference)


def test_a_node_stands_still_for_a_while(
    cluster: PrivateCluster, service: ServiceUnderTest, reference: dict[str, JobRecord]
) -> None:
    """The one that all speak to: their connections stay open, and nothing is answered on them."""
    standing = cluster.nodes[0]
    service.ctl("close_all_connections", "so that all begin with the first in the URL again")
    with jobs_coming_in(service):
        wait_goes_on(service)
        assert cluster.ports_in_use() == {standing.port}
        standing.pause()
        try:
            wait_goes_on(service)
            assert standing.port not in cluster.ports_in_use()
        finally:
            standing.resume()
        wait_goes_on(service)
        standing.kill()  # as the manual says: left as it is, it goes on counting what it led before
        standing.launch()
        wait_goes_on(service)
    standing.wait_up()
    check(service, reference)


async def test_what_was_not_acked_when_its_node_died_is_delivered_to_another(cluster: PrivateCluster) -> None:
    """RabbitMQ 3.10 keeps it for ever if its consumer was cancelled before: see ``request_queues``."""
    topology = Topology(f"requests-{uuid.uuid4()}", "results")
    leaving, staying = [await connected(node) for node in cluster.nodes[:2]]
    await declare(staying, topology)
    channel = await staying.channel()
    await channel.confirm_publishes()
    await channel.publish(Message(b"{}", message_id="job"), "", topology.requests)
    queues = RequestQueues(await leaving.channel(), lambda *_: None, QueueFailures())
    queue = next(each for each in topology.request_queues() if each.name == topology.requests)
    assert await queues.consume_one(queue)
    assert not await queues.consume_one(queue)
    await queues.stop_waiting([queue])
    returned = asyncio.Queue[Delivery]()
    await channel.consume(topology.requests, returned.put_nowait, prefetch=1)
    cluster.nodes[0].kill()
    try:
        async with asyncio.timeout(60):
            assert (await returned.get()).message.message_id == "job"
    finally:
        cluster.nodes[0].launch()
        cluster.nodes[0].wait_up()
        await staying.close()


async def connected(node: PrivateBroker) -> Connection:
    return await Connection.open(BrokerSettings.model_validate({"url": node.url}), "test")
