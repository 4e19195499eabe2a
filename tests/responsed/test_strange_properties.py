"""Properties that no library would write, on a results queue: each message is passed on, and ends no daemon."""

import contextlib

from tests.fuzz import seeds
from tests.fuzz.raw import RawPublisher, as_image
from tests.responsed.conftest import Connect, Replies
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker


def test_each_is_passed_on_and_so_is_the_next_good_reply(
    connect: Connect, replies: Replies, queue: str, daemon: Daemon, broker: PrivateBroker
) -> None:
    client = connect().listen(queue)
    with contextlib.closing(RawPublisher(broker)) as raw:
        taken = 0
        for name, encoded in seeds.tables().items():
            for number, properties in enumerate((encoded, as_image(encoded))):
                body = f"\x89{name} {number}".encode("latin-1")
                if raw.put(queue, properties, body):
                    taken += 1
                    assert client.receive().data == body
        assert taken > len(seeds.tables()), "the broker takes most of them"
    replies.done(queue)
    assert client.receive().head["type"] == "done"
    assert "Traceback" not in daemon.log
