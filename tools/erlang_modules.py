"""Where a RabbitMQ node looks for its modules: first where most of them are. It starts in half the time.

Left to itself Erlang looks for each of a thousand modules in ninety folders, one after the other, and most of these
belong to plugins that are not enabled: fifty thousand files that are not there.
"""

from pathlib import Path
from typing import Final

#: Tried with RabbitMQ 3 only: of another version nothing is found here, and it starts as it always does.
_RABBITMQ: Final = ("/usr/lib/rabbitmq/lib", "rabbitmq_server-3.*/plugins/{}-*")
_ERLANG: Final = ("/usr/lib/erlang/lib", "*/ebin")
#: The largest applications of every node.
_APPLICATIONS: Final = ("rabbit", "rabbit_common", "ra", "osiris", "cuttlefish", "ranch")


def find_modules_quickly(folder: Path, environment: dict[str, str]) -> None:
    """Have it in the ``environment`` of a node whose own ``folder`` that is, and which has no plugins."""
    top, pattern = _RABBITMQ
    found = [application for name in _APPLICATIONS for application in Path(top).glob(pattern.format(name))]
    if not found:
        return
    # RabbitMQ puts what lies in this folder before all others; the schemas of its settings have to be there.
    in_front = folder / "applications"
    in_front.mkdir()
    (in_front / found[0].name).symlink_to(found[0])
    environment["RABBITMQ_PLUGINS_DIR"] = str(in_front)
    modules = [*(application / "ebin" for application in found), *Path(_ERLANG[0]).glob(_ERLANG[1])]
    modules.sort(key=lambda each: sum(1 for _ in each.glob("*.beam")))  # Erlang takes the last first
    environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += f" -pa {' '.join(map(str, modules))}"
