"""A network of its own for a program that a test runs, with nothing in it but loopback: the default ports are free there."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

#: An ordinary user's PATH may have no ip.
_SCRIPT: Final = 'PATH=$PATH:/usr/sbin:/sbin; ip link set lo up; {set_up} exec "$@"'


def in_own_network(command: Sequence[str], environment: Mapping[str, str], set_up: str = "") -> list[str]:
    """What runs ``command`` there, with files mounted for it alone; ``set_up`` are commands in bash that root runs first.

    Where an ordinary user may make no user namespace (Ubuntu 24.04), root makes the network, and the command is ours.
    """
    script = _SCRIPT.format(set_up=f"{set_up};" if set_up else "")
    if subprocess.run(["unshare", "--map-root-user", "true"], check=False, capture_output=True).returncode == 0:
        return ["unshare", "--map-root-user", "--net", "--mount", "bash", "-euc", script, "bash", *command]
    ours = ["setpriv", f"--reuid={os.getuid()}", f"--regid={os.getgid()}", "--init-groups"]
    variables = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    return ["sudo", *variables, "unshare", "--net", "--mount", "bash", "-euc", script, "bash", *ours, *command]
