"""A pytest plugin, ``-p tests.project.only_python``, with which nothing starts a program or imports torch."""

import sys

_PROGRAMS = ("subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system")
_MODULES = ("torch", "diffusers", "transformers")


class NotOnlyPython(Exception):
    """Raised at the place that needs more than Python."""


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(_PROGRAMS) or (event == "import" and str(arguments[0]).partition(".")[0] in _MODULES):
        raise NotOnlyPython(f"{event} {arguments[:1]}")


sys.addaudithook(_refuse)
