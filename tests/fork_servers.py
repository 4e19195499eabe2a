"""Processes that start in no time: forked off one that has imported what they import."""

import gc
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Final
from unittest.mock import patch

#: They warn at import of what nobody uses here; the daemons tell them this, too.
_QUIET: Final = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
#: To look for garbage among what is imported takes a tenth of the time.
_WITHOUT_COLLECTOR: Final = "tests.without_collector"
_one_at_a_time: Final = threading.Lock()


def forked(
    modules: Sequence[str], target: Callable[..., None], *args: Any, environment: Mapping[str, str] | None = None
) -> ForkServerProcess:
    """A process that has begun ``target``; ``environment`` is what ``modules`` have seen when they were imported."""
    server = _server_with(tuple(modules), tuple((environment or {}).items()))
    process = ForkServerContext().Process(target=_run, args=(modules, target, *args))
    # multiprocessing knows one server only.
    with _one_at_a_time, patch.object(forkserver, "connect_to_new_process", server.connect_to_new_process):
        process.start()
    return process


@cache
def _server_with(modules: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> forkserver.ForkServer:
    """Ends with this process."""
    server = forkserver.ForkServer()
    server.set_forkserver_preload([_WITHOUT_COLLECTOR, __name__, *modules])
    # It has a socket in the folder for temporary files, which a test may have given too long a name.
    with patch.dict(os.environ, {**_QUIET, **dict(environment)}), patch.object(tempfile, "tempdir", None):
        server.ensure_running()
    return server


def _run(modules: Sequence[str], target: Callable[..., None], *args: Any) -> None:
    # The server says nothing of a module that it cannot import, and each process would take its ten seconds again.
    assert sys.modules.keys() >= set(modules), f"not imported before: {set(modules) - sys.modules.keys()}"
    gc.freeze()  # of what all of them share nothing is garbage, and to look for it takes long
    gc.enable()
    target(*args)
