"""A client whose queue has lost its leader waits for it, and the others do not wait with it."""

from tests.queue_leader import QueueLeader
from tests.responsed.conftest import Connect, Replies
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker


def test_who_listens_to_such_a_queue_takes_nobody_with_it(
    connect: Connect, daemon: Daemon, replies: Replies, broker: PrivateBroker
) -> None:
    queue, lost = (f"{replies.topology.results}.{name}" for name in ("alice", "bob"))
    client = connect().listen(queue)
    connect().listen(lost).abort()
    leader = QueueLeader(broker, lost)
    leader.lose()
    try:
        waiting = connect()
        waiting.send(op="listen", queue=lost)
        daemon.wait_log(rf"{lost} cannot be consumed: INTERNAL_ERROR")
        for number in range(20):
            replies.image(queue, index=number)
            assert client.receive().head["index"] == number
        assert waiting.receive_error() == "broker_away"
    finally:
        leader.bring_back()
    assert waiting.receive().head == {"type": "listening", "queue": lost}
    replies.done(lost)
    assert waiting.receive().head["type"] == "done"
    assert daemon.log.count("connection to the broker lost") == 1
