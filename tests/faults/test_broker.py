"""What a broker can be told to do to us: to delete our queues, to lose its virtual host, to take less and wait less."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import Queue, declare_queues
from stablediffusiond.settings import BrokerSettings
from tests.faults.job_records import JobRecords
from tests.faults.service_under_test import ServiceUnderTest
from tests.queue_leader import QueueLeader
from tools.private_broker import PrivateBroker

CONSUMER_TIMEOUT_SECONDS = 4
#: Longer than that and shorter than twice that: 150 steps of 10 ms and more, one image after the other.
LONG = {"prompt": "a long job", "width": 64, "height": 64, "steps": 150, "count": 4}
SHORT = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceUnderTest]:
    """A broker with little extending and small messages, and a daemon that draws one image at a time."""
    strict = PrivateBroker(
        config=f"max_message_size = 1048576\nconsumer_timeout = {CONSUMER_TIMEOUT_SECONDS * 1000}\n",
        advanced="[{rabbit, [{channel_tick_interval, 500}]}].",
    )
    one_at_a_time = {"STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "1"}
    with strict as broker, ServiceUnderTest(fake_denoiser=True, broker=broker, environment=one_at_a_time) as made:
        yield made


@pytest.fixture(autouse=True)
def _new_books(service: ServiceUnderTest) -> None:
    service.client.records = JobRecords()


def submit(service: ServiceUnderTest, job_id: str, fields: dict[str, object]) -> None:
    service.client.records.add(job_id, job_id)
    service.client.publish({**fields, "id": job_id})
    service.client.records.confirm(job_id)


def outcome(service: ServiceUnderTest, job_id: str) -> tuple[object, int]:
    """How the job has ended, once, and how many pictures came."""
    account = service.client.records.jobs[job_id]
    [end] = account.ends
    error = end.head.get("error")
    return error["code"] if isinstance(error, dict) else end.head["type"], len(account.pictures)


def wait_for_queue(service: ServiceUnderTest, queue: str) -> None:
    deadline = time.monotonic() + 30
    while [queue] not in service.broker.queues("name"):
        assert time.monotonic() < deadline, f"{queue} has not come back"
        time.sleep(0.1)  # RabbitMQ tells nobody


def test_a_job_longer_than_the_broker_waits_for_its_ack_is_drawn_once(service: ServiceUnderTest) -> None:
    lost = service.requestds[0].log.count("connection to the broker lost")
    submit(service, "long", {**LONG})
    service.settle()
    assert outcome(service, "long") == ("done", 4)
    assert service.requestds[0].log.count("connection to the broker lost") > lost, "the broker has waited after all"
    assert service.requestds[0].log.count("job long begins") == 1
    service.wait_depths({})


def test_a_picture_that_the_broker_never_takes_fails_alone(service: ServiceUnderTest) -> None:
    submit(service, "large", {**SHORT, "width": 768, "height": 768})
    submit(service, "small", {**SHORT})
    service.settle()
    assert outcome(service, "large") == ("too_large", 0)
    assert outcome(service, "small") == ("done", 1)


@pytest.mark.parametrize("which", ["requests", "results", "client"])
def test_a_deleted_queue_is_made_again(service: ServiceUnderTest, which: str) -> None:
    """What it held is gone; what is published once it is there again is not."""
    topology = service.topology
    queue = {"requests": topology.requests, "results": topology.results, "client": service.client.reader.queue}[which]
    if which == "results":  # nobody listens to it just now, so that it is made again with the next link
        service.ctl("delete_queue", queue)
        service.ctl("close_all_connections", "a fault made on purpose")
    else:
        service.ctl("delete_queue", queue)
    wait_for_queue(service, queue)
    submit(service, f"after {which}", {**SHORT})
    service.settle()
    assert outcome(service, f"after {which}") == ("done", 1)


def test_a_virtual_host_that_was_gone_is_furnished_again(service: ServiceUnderTest) -> None:
    service.ctl("delete_vhost", "/")
    service.wait_requestd("no such virtual host, or not for this user")
    service.ctl("add_vhost", "/")
    service.ctl("set_permissions", "-p", "/", "guest", ".*", ".*", ".*")
    wait_for_queue(service, service.client.reader.queue)  # or the picture is kept among the unroutable
    submit(service, "after the flood", {**SHORT})
    service.settle()
    assert outcome(service, "after the flood") == ("done", 1)


def test_a_reply_queue_without_a_leader_holds_up_nobody_and_its_replies_are_kept(service: ServiceUnderTest) -> None:
    service.restart_requestd("short_patience").wait_ready()
    queue = f"{service.topology.results}.lost"
    declare(service, service.topology.results_queue(queue))
    leader = QueueLeader(service.broker, queue)
    leader.lose()
    for number in range(6):  # more than are published at a time, or step together
        service.client.publish({**SHORT, "id": f"lost {number}"}, reply_to=queue)
    submit(service, "innocent", {**SHORT})
    service.settle(40)
    assert outcome(service, "innocent") == ("done", 1)
    service.wait_depths({".unroutable": 12})
    service.restart_requestd()
    service.ctl("purge_queue", service.topology.unroutable)
    leader.bring_back()
    service.ctl("delete_queue", queue)


def test_a_request_queue_without_a_leader_is_named_and_served_when_it_has_one(service: ServiceUnderTest) -> None:
    queue = service.topology.request_queue("high")
    leader = QueueLeader(service.broker, queue)
    leader.lose()
    service.ctl("close_all_connections", "so that they begin again")
    service.wait_requestd(f"{queue} cannot be consumed: INTERNAL_ERROR")
    assert service.requestds[0].log.count("INTERNAL_ERROR") < 5, "an outage is told twice, and not once a try"
    leader.bring_back()
    submit(service, "high again", {**SHORT})
    service.settle()
    assert outcome(service, "high again") == ("done", 1)


def declare(service: ServiceUnderTest, queue: Queue) -> None:
    settings = BrokerSettings.model_validate({"url": service.broker.url})

    async def declare() -> None:
        connection = await Connection.open(settings, "the tests")
        await declare_queues(connection, [queue])
        await connection.close()

    asyncio.run(declare())


def test_queues_with_other_arguments_are_used_as_they_are(service: ServiceUnderTest) -> None:
    queue = service.topology.requests
    service.requestds[0].kill()
    service.ctl("delete_queue", queue)
    name = f'rabbit_misc:r(<<"/">>, queue, <<"{queue}">>)'
    service.broker.evaluate(f'rabbit_amqqueue:declare({name}, true, false, [], none, <<"test">>).')
    service.restart_requestd().wait_ready().wait_log(f"queue {queue} is used as it is: PRECONDITION_FAILED")
    submit(service, "classic", {**SHORT})
    service.settle()
    assert outcome(service, "classic") == ("done", 1)
