"""What a running node is asked in milliseconds; rabbitmqctl starts an Erlang machine of its own each time.

By ``erl_call``, which comes with Erlang. A node's own functions answer, those that rabbitmqctl calls too.
"""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

_PROGRAM: Final = shutil.which("erl_call") or "/usr/lib/erlang/bin/erl_call"
#: Prints a line for each queue, what was asked for parted by tabs.
_LIST_QUEUES: Final = """
Text = fun
    ({{resource, _, _, Name}}) -> Name;
    (Name) when is_atom(Name) -> atom_to_list(Name);
    (Other) -> io_lib:format("~w", [Other])
end,
Print = fun(Queue) -> io:format("~ts~n", [lists:join("\\t", [Text(Value) || {{_, Value}} <- Queue])]) end,
lists:foreach(Print, rabbit_amqqueue:info_all(<<"/">>, [{items}])).
"""


class CallFailed(Exception):
    """Raised when a node cannot be asked, or what it is asked fails."""


def evaluate(node: str, cookie: str, environment: Mapping[str, str], expressions: str) -> str:
    """Have ``node`` evaluate Erlang's ``expressions``, as ``rabbitmqctl eval`` does; returns what they print.

    Raises:
        CallFailed: it cannot be reached, or they fail.
    """
    done = subprocess.run(
        [_PROGRAM, "-r", "-n", node, "-c", cookie, "-fetch_stdout", "-e"],
        env=environment, input=f"{expressions.strip()}\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    printed, said, _ = done.stdout.rpartition("{ok, ")
    if done.returncode or not said:
        raise CallFailed(f"{expressions}: {done.stdout}{done.stderr}")
    return printed


def list_queues(items: Sequence[str]) -> str:
    """Expressions that print the ``items`` of each queue of the vhost /, named as for ``rabbitmqctl list_queues``."""
    return _LIST_QUEUES.format(items=", ".join(items))
