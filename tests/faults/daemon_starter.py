"""The daemons of a service under test, with settings by which they notice faults within seconds."""

from collections.abc import Mapping
from typing import Final

from stablediffusiond.broker.topology import Topology
from tests.preloaded import Preloaded, PreloadedWithTorch, request_daemon, response_daemon
from tools.daemons import Daemon

HEARTBEAT_SECONDS: Final = 5


class DaemonStarter:
    """Starts one whenever it is asked to: daemons of tests are killed and started again."""

    def __init__(
        self,
        topology: Topology,
        *,
        requests_url: str,
        replies_url: str,
        port: int,
        fake_denoiser: bool,
        environment: Mapping[str, str],
    ) -> None:
        """``port`` is that of the response daemon; ``environment`` overrides the settings of both."""
        self._requests_url, self._replies_url, self._port = requests_url, replies_url, port
        self._fake_denoiser = fake_denoiser
        self._environment = {
            "STABLEDIFFUSIOND_CONFIG": "",
            "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology.requests,
            "STABLEDIFFUSIOND_QUEUES__RESULTS": topology.results,
            "STABLEDIFFUSIOND_BROKER__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "STABLEDIFFUSIOND_BROKER__RECONNECT_MAX_SECONDS": "2",
            "STABLEDIFFUSIOND_BROKER__BLOCKED_TIMEOUT_SECONDS": "10",
            "STABLEDIFFUSIOND_RESPONSES__STALL_SECONDS": "5",
            **environment,
        }

    def request_daemon(self, failpoint: str = "none") -> Daemon:
        environment = {**self._environment, "STABLEDIFFUSIOND_BROKER__URL": self._requests_url}
        if not self._fake_denoiser and failpoint == "none":
            return request_daemon(environment)
        module = "tests.faults.requestd_with_failpoint"
        if self._fake_denoiser:
            return Preloaded(module, environment, failpoint, "fake-denoiser")
        return PreloadedWithTorch(module, environment, failpoint)

    def response_daemon(self) -> Daemon:
        return response_daemon(
            {
                **self._environment,
                "STABLEDIFFUSIOND_BROKER__URL": self._replies_url,
                "STABLEDIFFUSIOND_RESPONSES__PORT": str(self._port),
            }
        )
