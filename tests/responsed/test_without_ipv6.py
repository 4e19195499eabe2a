"""The daemon as it is started by hand, on localhost, where IPv6 is switched off."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.test_readme import CHECKOUT
from tests.own_network import in_own_network

#: As Debian writes it, whether there is IPv6 or not.
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
#: The addresses are gone, as with net.ipv6.conf.all.disable_ipv6=1, which a container may not set.
WITHOUT_IPV6 = 'mount --bind "$HOSTS" /etc/hosts; ip -6 address flush dev lo'


def test_it_listens_on_the_address_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    environment = {
        **os.environ,
        "HOSTS": str(tmp_path / "hosts"),
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_LOG__FORMAT": "text",
    }
    command = [sys.executable, "-m", "stablediffusiond.responsed.daemon"]
    log = ""
    with subprocess.Popen(
        in_own_network(command, environment, WITHOUT_IPV6),
        env=environment, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True,
    ) as daemon:  # fmt: skip
        assert daemon.stderr is not None
        while "listening on" not in log:
            line = daemon.stderr.readline()
            assert line, log
            log += line
        daemon.terminate()
        log += daemon.communicate(timeout=60)[1]
    assert daemon.returncode == 0
    assert re.findall("listening on (.*)", log) == ["127.0.0.1:50007"]
