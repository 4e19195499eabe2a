"""What a private RabbitMQ node is told: its files and its environment."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CONFIG: Final = """
loopback_users = none
vm_memory_high_watermark.relative = 0.4
disk_free_limit.absolute = 50MB
log.file.level = warning
raft.wal_max_size_bytes = 16777216
"""


def write_files(folder: Path, plugins: Sequence[str], advanced: str, cookie: str) -> None:
    """All that a node reads from its folder, but for rabbitmq.conf."""
    for name in ("mnesia", "log"):
        (folder / name).mkdir()
    (folder / "plugins").write_text(f"[{','.join(plugins)}].\n")
    (folder / "advanced.config").write_text(advanced)
    cookie_file = folder / ".erlang.cookie"
    cookie_file.touch(mode=0o600)
    cookie_file.write_text(cookie)


def environment(folder: Path, node: str, epmd_port: int, own_port: int, erlang: str) -> dict[str, str]:
    """``own_port`` is where other nodes and rabbitmqctl reach it, ``erlang`` holds arguments of the Erlang machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_DIST_PORT": str(own_port),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{127,0,0,1}} {erlang}",
        "RABBITMQ_CTL_ERL_ARGS": erlang,
    }
