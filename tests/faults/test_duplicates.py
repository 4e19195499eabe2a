"""Jobs that are submitted or delivered twice: who drops duplicates sees each reply once, and the right one."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import pytest

from stablediffusiond.broker.message import Message
from stablediffusiond.frames import Frame
from tests.faults.job_records import JobRecords
from tests.faults.service_under_test import ServiceUnderTest
from tools.private_broker import PrivateBroker

Moment = Literal["waiting", "drawing", "published"]

#: Its seed comes from its id, and it takes so long that a second submission finds it under way.
REQUEST = {"prompt": "a tree", "width": 64, "height": 64, "steps": 80, "count": 2}
#: What differs between two deliveries: the number on the socket, and how long it took.
OF_ONE_DELIVERY = dict.fromkeys(("delivery", "queued_seconds", "engine_seconds", "total_seconds"))


class RecordsWithDuplicates(JobRecords):
    """Records that keep duplicates, too."""

    def __init__(self) -> None:
        super().__init__()
        self.came: dict[str, list[Frame]] = defaultdict(list)

    def add_reply(self, frame: Frame) -> None:
        super().add_reply(frame)
        with self._changed:
            self.came[str(frame.head["message_id"])].append(frame)
            self._changed.notify_all()

    def wait_for_done(self, job_id: str, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.came[f"{job_id}/done"]) >= times, 60), dict(self.came)


@pytest.fixture(scope="module")
def service(broker: PrivateBroker) -> Iterator[ServiceUnderTest]:
    with ServiceUnderTest(fake_denoiser=True, broker=broker) as made:
        yield made


@pytest.fixture
def records(service: ServiceUnderTest) -> RecordsWithDuplicates:
    made = service.client.records = RecordsWithDuplicates()
    return made


def submit(service: ServiceUnderTest, job_id: str, *, said_by: str) -> None:
    """The job's name is in the body, or it is the message's."""
    body = {**REQUEST, "id": job_id} if said_by == "id" else REQUEST
    message = Message(
        json.dumps(body).encode(),
        message_id=job_id if said_by == "message_id" else None,
        reply_to=service.client.reader.queue,
        timestamp=datetime.now(UTC),
    )
    service.client.send(message, service.topology.requests)


@pytest.mark.parametrize(("moment", "said_by"), [("waiting", "id"), ("drawing", "message_id"), ("published", "id")])
def test_a_job_that_is_submitted_twice(
    service: ServiceUnderTest, records: RecordsWithDuplicates, moment: Moment, said_by: str
) -> None:
    job_id = f"twice, {moment}"
    if moment == "waiting":
        service.requestds[0].kill()
    submit(service, job_id, said_by=said_by)
    if moment == "drawing":
        service.wait_requestd(f"job {job_id} begins")
    elif moment == "published":
        records.wait_for_done(job_id, 1)
    submit(service, job_id, said_by=said_by)
    service.start_ended_daemons()
    records.wait_for_done(job_id, 2)
    assert records.came.keys() == {f"{job_id}/{which}" for which in (0, 1, "done")}
    for frames in records.came.values():
        first, second = frames  # drawn twice at most
        assert first.data == second.data
        assert {**first.head, **OF_ONE_DELIVERY} == {**second.head, **OF_ONE_DELIVERY}
    assert service.requestds[0].log.count(f"job {job_id} begins") == 2
    service.wait_depths({})


def test_a_job_whose_ack_was_lost_is_not_drawn_again(service: ServiceUnderTest, records: RecordsWithDuplicates) -> None:
    service.restart_requestd("ack_lost")
    submit(service, "unacked", said_by="message_id")
    service.wait_requestd("job unacked done")
    service.wait_requestd("connection to the broker lost")
    submit(service, "next", said_by="message_id")
    records.wait_for_done("next", 1)
    service.wait_depths({})
    assert service.requestds[0].log.count("job unacked begins") == 1
    assert all(len(frames) == 1 for frames in records.came.values())
