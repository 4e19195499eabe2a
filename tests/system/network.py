"""A network of its own for a machine, with a way out for packages: nothing that listens on this machine is in its way."""

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from typing import Final

from tests.system.root import AS_ROOT

#: RFC 2544 keeps these addresses for tests: no network that this machine belongs to has them.
ADDRESS: Final = "198.18.0.100"
NAME_SERVER: Final = "198.18.0.3"
DEVICE: Final = "tap0"
_NETWORK: Final = "198.18.0.0/24"


class Network:
    """A network namespace; slirp4netns carries what leaves it, as an ordinary program of this machine would."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def path(self) -> str:
        return f"/run/netns/{self.name}"

    def ip(self, *arguments: str) -> None:
        """Run ip(8) in it."""
        subprocess.run([*AS_ROOT, "ip", "-n", self.name, *arguments], check=True)

    def set_ipv6(self, *, on: bool) -> None:
        """Switch IPv6 on or off, as sysctl does."""
        settings = [f"net.ipv6.conf.{which}.disable_ipv6={int(not on)}" for which in ("all", "default")]
        # With a /proc of its own: a container's may be read-only.
        script = f"mount -t proc proc /proc; sysctl -qw {' '.join(settings)}"
        subprocess.run([*AS_ROOT, "ip", "netns", "exec", self.name, "bash", "-euc", script], check=True)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    made = Network(f"stablediffusiond-{uuid.uuid4().hex[:8]}")
    subprocess.run([*AS_ROOT, "ip", "netns", "add", made.name], check=True)
    try:
        made.ip("link", "set", "lo", "up")
        with _way_out(made):
            yield made
    finally:
        subprocess.run([*AS_ROOT, "ip", "netns", "delete", made.name], check=True)


@contextlib.contextmanager
def _way_out(made: Network) -> Iterator[None]:
    """It ends when its standard input does, and so with us, whatever we die of."""
    carry = (
        f"exec slirp4netns --configure --mtu=65520 --disable-host-loopback --cidr={_NETWORK} "
        f"--netns-type=path --ready-fd=3 --exit-fd=0 {made.path} {DEVICE} 3>&1 >&2"
    )
    with subprocess.Popen(
        [*AS_ROOT, "bash", "-c", carry], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as carrier:
        assert carrier.stdout is not None
        assert carrier.stderr is not None
        ready = carrier.stdout.read(1)
        assert ready == b"1", f"slirp4netns does not start:\n{carrier.stderr.read().decode()}"
        yield
