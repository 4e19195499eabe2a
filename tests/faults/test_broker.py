"""What a broker can be told to do to us: to delete our queues, to lose its virtual host, to take less and wait less."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import Queue, declare_queues
from stablediffusiond.settings import BrokerSettings
from tests.faults.bench import Bench
from tests.faults.books import Books
from tests.queue_leader import QueueLeader
from tools.private_broker import PrivateBroker

CONSUMER_TIMEOUT_SECONDS = 4
#: Longer than that and shorter than twice that: 150 steps of 10 ms and more, one image after the other.
LONG = {"prompt": "a long job", "width": 64, "height": 64, "steps": 150, "count": 4}
SHORT = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 2}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """A broker with little extending and small messages, and a daemon that draws one image at a time."""
    strict = PrivateBroker(
        config=f"max_message_size = 1048576\nconsumer_timeout = {CONSUMER_TIMEOUT_SECONDS * 1000}\n",
        advanced="[{rabbit, [{channel_tick_interval, 500}]}].",
    )
    one_at_a_time = {"STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "1"}
    with strict as broker, Bench(stand_in=True, broker=broker, environment=one_at_a_time) as made:
        yield made


@pytest.fixture(autouse=True)
def _new_books(bench: Bench) -> None:
    bench.books = Books()


def submit(bench: Bench, job_id: str, fields: dict[str, object]) -> None:
    bench.books.open(job_id, job_id)
    bench.publish({**fields, "id": job_id})
    bench.books.confirm(job_id)


def outcome(bench: Bench, job_id: str) -> tuple[object, int]:
    """How the job has ended, once, and how many pictures came."""
    account = bench.books.accounts[job_id]
    [end] = account.ends
    error = end.head.get("error")
    return error["code"] if isinstance(error, dict) else end.head["type"], len(account.pictures)


def wait_for_queue(bench: Bench, queue: str) -> None:
    deadline = time.monotonic() + 30
    while queue not in bench.broker.ctl("list_queues", "name").split():
        assert time.monotonic() < deadline, f"{queue} has not come back"


def test_a_job_longer_than_the_broker_waits_for_its_ack_is_drawn_once(bench: Bench) -> None:
    lost = bench.requestds[0].log.count("connection to the broker lost")
    submit(bench, "long", {**LONG})
    bench.settle()
    assert outcome(bench, "long") == ("done", 4)
    assert bench.requestds[0].log.count("connection to the broker lost") > lost, "the broker has waited after all"
    assert bench.requestds[0].log.count("job long begins") == 1
    bench.wait_depths({})


def test_a_picture_that_the_broker_never_takes_fails_alone(bench: Bench) -> None:
    submit(bench, "large", {**SHORT, "width": 768, "height": 768})
    submit(bench, "small", {**SHORT})
    bench.settle()
    assert outcome(bench, "large") == ("too_large", 0)
    assert outcome(bench, "small") == ("done", 1)


@pytest.mark.parametrize("which", ["requests", "results", "client"])
def test_a_deleted_queue_is_made_again(bench: Bench, which: str) -> None:
    """What it held is gone; what is published once it is there again is not."""
    topology = bench.topology
    queue = {"requests": topology.requests, "results": topology.results, "client": bench.reader.queue}[which]
    if which == "results":  # nobody listens to it just now, so that it is made again with the next link
        bench.ctl("delete_queue", queue)
        bench.ctl("close_all_connections", "a fault made on purpose")
    else:
        bench.ctl("delete_queue", queue)
    wait_for_queue(bench, queue)
    submit(bench, f"after {which}", {**SHORT})
    bench.settle()
    assert outcome(bench, f"after {which}") == ("done", 1)


def test_a_virtual_host_that_was_gone_is_furnished_again(bench: Bench) -> None:
    bench.ctl("delete_vhost", "/")
    bench.wait_requestd("no such virtual host, or not for this user")
    bench.ctl("add_vhost", "/")
    bench.ctl("set_permissions", "-p", "/", "guest", ".*", ".*", ".*")
    wait_for_queue(bench, bench.reader.queue)  # or the picture is kept among the unroutable
    submit(bench, "after the flood", {**SHORT})
    bench.settle()
    assert outcome(bench, "after the flood") == ("done", 1)


def test_a_reply_queue_without_a_leader_holds_up_nobody_and_its_replies_are_kept(bench: Bench) -> None:
    bench.restart_requestd("impatient").wait_ready()
    queue = f"{bench.topology.results}.lost"
    declare(bench, bench.topology.results_queue(queue))
    leader = QueueLeader(bench.broker, queue)
    leader.lose()
    for number in range(6):  # more than are published at a time, or step together
        bench.publish({**SHORT, "id": f"lost {number}"}, reply_to=queue)
    submit(bench, "innocent", {**SHORT})
    bench.settle(40)
    assert outcome(bench, "innocent") == ("done", 1)
    bench.wait_depths({".unroutable": 12})
    bench.restart_requestd()
    bench.ctl("purge_queue", bench.topology.unroutable)
    leader.bring_back()
    bench.ctl("delete_queue", queue)


def test_a_request_queue_without_a_leader_is_named_and_served_when_it_has_one(bench: Bench) -> None:
    queue = bench.topology.request_queue("high")
    leader = QueueLeader(bench.broker, queue)
    leader.lose()
    bench.ctl("close_all_connections", "so that they begin again")
    bench.wait_requestd(f"{queue} cannot be consumed: .*noproc")
    assert bench.requestds[0].log.count("noproc") < 5, "an outage is told twice, and not once a try"
    leader.bring_back()
    submit(bench, "high again", {**SHORT})
    bench.settle()
    assert outcome(bench, "high again") == ("done", 1)


def declare(bench: Bench, queue: Queue) -> None:
    settings = BrokerSettings.model_validate({"url": bench.broker.url})

    async def declare() -> None:
        connection = await Connection.open(settings, "the tests")
        await declare_queues(connection, [queue])
        await connection.close()

    asyncio.run(declare())


def test_queues_with_other_arguments_are_used_as_they_are(bench: Bench) -> None:
    queue = bench.topology.requests
    bench.requestds[0].kill()
    bench.ctl("delete_queue", queue)
    bench.ctl("eval", f'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>), '
              'true, false, [], none, <<"test">>).')  # fmt: skip
    bench.restart_requestd().wait_ready().wait_log(f"queue {queue} is used as it is: PRECONDITION_FAILED")
    submit(bench, "classic", {**SHORT})
    bench.settle()
    assert outcome(bench, "classic") == ("done", 1)
