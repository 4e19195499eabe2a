"""A service of which something is away, and what needs it."""

import contextlib
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from stablediffusiond.client import Client
from stablediffusiond.settings import BrokerSettings, Settings
from tests.client.fake_responses import FakeResponses
from tests.client.proxy import Proxy
from tests.client.silence import UNRESOLVED, dropping_port, no_answer_for_names, silent_port

#: What the library allows, in these tests.
OWN_SECONDS = 0.4


class Away(NamedTuple):
    """Who is away, and how."""

    who: Literal["broker", "response daemon"]
    how: Literal["its name has no answer", "its port drops what knocks", "silent", "silent after a while", "no broker"]

    @property
    def needed_by(self) -> tuple[str, ...]:
        """The calls that notice."""
        if self.who == "response daemon":
            return ("connect", "submit", "draw")
        others = ("submit", "enqueue", "draw", "cancel", "status")
        return others if self.how == "silent after a while" else ("connect", *others)


AWAY: Final = (
    Away("broker", "its name has no answer"),
    Away("broker", "its port drops what knocks"),
    Away("broker", "silent"),
    Away("broker", "silent after a while"),
    Away("response daemon", "its name has no answer"),
    Away("response daemon", "its port drops what knocks"),
    Away("response daemon", "silent"),
    Away("response daemon", "no broker"),
)


class ServiceWithOutage:
    """A service of which something is away."""

    def __init__(
        self, settings: Settings, responses: FakeResponses, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._responses = responses
        self._proxy = proxy
        self._stack = contextlib.ExitStack()
        self._monkeypatch = monkeypatch
        broker = BrokerSettings(
            url=SecretStr(f"amqp://guest:guest@127.0.0.1:{proxy.port}/%2F"), connect_timeout_seconds=OWN_SECONDS
        )
        there = settings.responses.model_copy(update={"handshake_seconds": OWN_SECONDS})
        self.settings = settings.model_copy(update={"broker": broker, "responses": there})

    def patiently(self) -> None:
        """With the limits of time that the library has by default."""
        self._broker(connect_timeout_seconds=60)
        self._there(handshake_seconds=60)

    def take_away(self, away: Away) -> None:
        match away.how:
            case "its name has no answer":
                self._stack.enter_context(no_answer_for_names(self._monkeypatch))
                self._lead(away, UNRESOLVED, 1)
            case "its port drops what knocks":
                self._lead(away, "127.0.0.1", self._stack.enter_context(dropping_port()))
            case "silent":
                self._lead(away, "127.0.0.1", self._stack.enter_context(silent_port()))
            case "no broker":
                self._responses.first_error = b'{"type":"error","code":"broker_away","message":"it will come back"}\n'

    def client(self, away: Away | None = None, **options: Any) -> Client:
        """One that has yet to notice."""
        made = Client(self.settings, **options)
        if away is not None and away.how == "silent after a while":
            made.connect()
            made.enqueue(prompt="cat")
        return made

    def fall_silent(self) -> None:
        """The broker says nothing any more to those that are connected now."""
        self._proxy.swallow_answers()

    def port_of(self, away: Away) -> int:
        """Where to knock for who is away."""
        if away.who == "broker":
            return urlsplit(self.settings.broker.url.get_secret_value()).port or 0
        return self.settings.responses.port

    def come_back(self) -> None:
        self._stack.close()
        self._responses.broker_is_back.set()
        self._proxy.cut()

    def _lead(self, away: Away, host: str, port: int) -> None:
        if away.who == "broker":
            self._broker(url=SecretStr(f"amqp://guest:guest@{host}:{port}/%2F"))
        else:
            self._there(host=host, port=port)

    def _broker(self, **changes: Any) -> None:
        self.settings = self.settings.model_copy(update={"broker": self.settings.broker.model_copy(update=changes)})

    def _there(self, **changes: Any) -> None:
        there = self.settings.responses.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"responses": there})
