"""What rabbitmqctl does, by the functions of the node that it calls: without an Erlang machine for each command."""

from collections.abc import Sequence
from typing import Final

#: Expressions by rabbitmqctl's names for them; ``{n}`` is the argument n as Erlang's text, ``{vhost}`` that of ``-p``.
_COMMANDS: Final = {
    "add_user": "ok = rabbit_auth_backend_internal:add_user({0}, {1}, {us}).",
    "change_password": "ok = rabbit_auth_backend_internal:change_password({0}, {1}, {us}).",
    "set_permissions": "ok = rabbit_auth_backend_internal:set_permissions({0}, {vhost}, {1}, {2}, {3}, {us}).",
    "clear_permissions": "ok = rabbit_auth_backend_internal:clear_permissions({0}, {vhost}, {us}).",
    "add_vhost": "ok = rabbit_vhost:add({0}, {us}).",
    "delete_vhost": "ok = rabbit_vhost:delete({0}, {us}).",
    "set_policy": "ok = rabbit_policy:parse_set({vhost}, {0}, {1}, {2}, 0, {4}, {us}).",
    "clear_policy": "ok = rabbit_policy:delete({vhost}, {0}, {us}).",
    "delete_queue": "{{ok, Q}} = {queue}, {{ok, _}} = rabbit_amqqueue:delete(Q, false, false, {us}).",
    "purge_queue": "{{ok, Q}} = {queue}, {{ok, _}} = rabbit_amqqueue:purge(Q).",
    "close_all_connections": "rabbit_networking:close_connections(rabbit_networking:connections(), {0}).",
    "set_vm_memory_high_watermark": "ok = vm_memory_monitor:set_vm_memory_high_watermark(binary_to_float({0})).",
    "set_disk_free_limit": "ok = rabbit_disk_monitor:set_disk_free_limit(binary_to_integer({0})).",
}
_VHOST: Final = ("-p", "--vhost")
_US: Final = '<<"rabbitmqctl">>'


def expressions(arguments: Sequence[str]) -> str | None:
    """Erlang's for ``rabbitmqctl`` with these arguments; None if only rabbitmqctl itself does that."""
    command, *rest = arguments
    if command not in _COMMANDS:
        return None
    vhost = "/"
    if rest and rest[0] in _VHOST:
        _, vhost, *rest = rest
    texts = [_text(each) for each in rest]
    queue = f"rabbit_amqqueue:lookup(rabbit_misc:r({_text(vhost)}, queue, {texts[0]}))"
    return _COMMANDS[command].format(*texts, vhost=_text(vhost), queue=queue, us=_US)


def _text(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'<<"{escaped}"/utf8>>'
