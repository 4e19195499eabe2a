"""Who may read: the Unix socket by its permissions, TCP by a token, other machines by nothing less."""

import contextlib
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client as Library
from stablediffusiond.client import Done, Image
from stablediffusiond.errors import ResponsesAway
from stablediffusiond.settings import Settings, load
from tests.client.running import Running
from tests.preloaded import response_daemon
from tests.responsed.conftest import LIMITS, Client, Connect, Replies
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

TOKEN = "open-sesame-and-nothing-else"
WRONG = "open-barley-and-nothing-else"
BIG = b"\x89" * 1_000_000
Enter = Callable[[], Client]


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sdd-") as folder:  # pytest's own are too long for a socket's name
        yield Path(folder) / "responses.sock"


@pytest.fixture(scope="module")
def daemon(broker: PrivateBroker, names: Topology, path: Path) -> Iterator[Daemon]:
    environment = {
        **LIMITS,
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": names.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": names.results,
        "STABLEDIFFUSIOND_RESPONSES__SOCKET": str(path),
        "STABLEDIFFUSIOND_RESPONSES__TOKEN": TOKEN,
        "STABLEDIFFUSIOND_LOG__LEVEL": "debug",
    }
    with response_daemon(environment) as made:
        yield made.wait_ready().wait_status("clients$")


@pytest.fixture
def enter(daemon: Daemon, path: Path) -> Iterator[Enter]:
    """Connect by the Unix socket."""
    with contextlib.ExitStack() as opened:

        def make() -> Client:
            client = Client(path)
            opened.callback(client.close)
            return client

        yield make


@pytest.fixture
def settings_of_a_client(broker: PrivateBroker, names: Topology, daemon: Daemon) -> Settings:
    return Settings.model_validate(
        {
            "broker": {"url": broker.url},
            "queues": {"requests": names.requests, "results": names.results},
            "responses": {"host": "127.0.0.1", "port": daemon.port()},
        }
    )


def with_responses(settings: Settings, **changes: object) -> Settings:
    values = settings.responses.model_dump() | changes
    return settings.model_copy(update={"responses": type(settings.responses).model_validate(values)})


# TCP, with a token


def test_with_the_token_everything_is_as_without_one(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect()
    client.send(op="auth", token=TOKEN)
    client.listen(queue)
    replies.done(queue)
    assert client.receive().head["type"] == "done"


@pytest.mark.parametrize(
    "line",
    [
        {"op": "auth", "token": WRONG},
        {"op": "listen", "queue": "results"},
        {"op": "cancel", "id": "job"},
        {"op": "ping"},
    ],
    ids=lambda line: line["op"],
)
def test_without_it_nothing_is_done_and_the_connection_ends(connect: Connect, line: dict[str, str]) -> None:
    client = connect()
    client.send(**line)
    frame = client.receive()
    assert (frame.head["type"], frame.head["code"]) == ("error", "unauthorized")
    assert "token" in str(frame.head["message"])
    assert not {TOKEN, WRONG} & set(str(frame.head).split())
    assert client.ended()


def test_who_says_nothing_is_turned_away_too(connect: Connect) -> None:
    client = connect()
    assert client.receive_error() == "unauthorized"
    assert client.ended()


def test_a_token_that_is_no_text_is_a_wrong_line_and_is_not_repeated(connect: Connect) -> None:
    client = connect()
    client.socket.sendall(b'{"op":"auth","token":["open","sesame"]}\n')
    frame = client.receive()
    assert frame.head["code"] == "bad_op"
    assert "sesame" not in str(frame.head)


def test_where_no_token_is_asked_for_any_will_do(enter: Enter, queue: str) -> None:
    client = enter()
    client.send(op="auth", token=WRONG)
    client.listen(queue)


# The Unix socket


def test_its_group_may_open_it_and_nobody_else(daemon: Daemon, path: Path) -> None:
    assert daemon.log.count(f"listening on {path}") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_it_needs_no_token_and_pictures_come(enter: Enter, replies: Replies, queue: str) -> None:
    client = enter().listen(queue, ack="manual", encoding="binary")
    replies.image(queue, png=BIG)
    assert client.receive().data == BIG
    client.send(op="ack", delivery=1)
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"


def test_who_says_nothing_there_is_a_plain_listener(enter: Enter, replies: Replies, names: Topology) -> None:
    client = enter()
    replies.done(names.results)
    assert client.receive().head["type"] == "done"


def test_who_closes_only_its_own_side_there_still_gets_pictures(enter: Enter, replies: Replies, queue: str) -> None:
    client = enter().listen(queue)
    client.socket.shutdown(socket.SHUT_WR)
    replies.image(queue)
    assert client.receive().data == b"\x89PNG bytes"


def test_what_was_written_to_who_left_without_reading_goes_to_the_next(
    enter: Enter, replies: Replies, queue: str
) -> None:
    left = enter().listen(queue)
    replies.image(queue)
    assert left.socket.recv(1, socket.MSG_PEEK), "it lies there, unread"
    left.close()
    frame = enter().listen(queue).receive()
    assert (frame.data, frame.head["redelivered"]) == (b"\x89PNG bytes", True)


def test_who_left_before_gets_nothing(enter: Enter, replies: Replies, queue: str) -> None:
    enter().listen(queue).close()
    replies.image(queue)
    assert enter().listen(queue).receive().data == b"\x89PNG bytes"


def test_a_reader_that_takes_nothing_off_it_is_cut_off(
    enter: Enter, replies: Replies, queue: str, daemon: Daemon
) -> None:
    stopped = enter().listen(queue)
    replies.image(queue, png=BIG)
    daemon.wait_log(r"process \d+ is cut off, and its replies go back: nothing was taken off the socket for 1 s")
    assert enter().listen(queue).receive().data == BIG
    assert stopped.socket.fileno() >= 0


# The library and the command


@pytest.mark.parametrize("way", ["token_file", "socket"])
def test_the_library_uses_what_the_settings_say(
    way: str, settings_of_a_client: Settings, replies: Replies, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    file = tmp_path / "settings.toml"
    file.write_text(f"[responses]\n{way} = '{path if way == 'socket' else tmp_path / 'token'}'\n")
    port = settings_of_a_client.responses.port
    responses = load(file).responses.model_copy(update={"host": "127.0.0.1", "port": port})
    with Library(settings_of_a_client.model_copy(update={"responses": responses})) as client:
        job = client.submit(prompt="cat")
        replies.image(client.queue, job=job.id)
        replies.done(client.queue, job=job.id)
        assert [type(event) for event in job.events(timeout_seconds=20)] == [Image, Done]


def test_the_library_says_what_is_wrong(settings_of_a_client: Settings, tmp_path: Path) -> None:
    for changes, expected in (
        ({"token": WRONG}, "the token is wrong"),
        ({}, "a token is asked for here"),
        ({"socket": tmp_path / "none"}, "is stablediffusion_responsed running there"),
    ):
        with Library(with_responses(settings_of_a_client, **changes)) as client:
            with pytest.raises(ResponsesAway, match=expected) as caught:
                client.submit(prompt="cat")
            assert WRONG not in str(caught.value)


def test_the_command_ends_with_one_line_that_helps(settings_of_a_client: Settings, tmp_path: Path) -> None:
    code, out, err = Running(settings_of_a_client, tmp_path, "cat", "-o", "cat.png").end()
    assert (code, out) == (3, b"")
    assert err.count("\n") == 1
    assert "a token is asked for here" in err


# Secrets


def test_no_secret_is_in_the_log_or_the_list_of_processes(daemon: Daemon) -> None:
    """After all that was said above, at the level debug."""
    assert "the token is wrong" in daemon.log
    shown = Path(f"/proc/{daemon.process.pid}/cmdline").read_text() + daemon.log + daemon.status
    for secret in (TOKEN, WRONG, "guest:guest"):
        assert secret not in shown
