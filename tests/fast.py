"""``--fast``: only the tests that need nothing but Python, found by what they import and which fixtures they use.

A file is left unopened if it imports, itself or through other modules of this project, torch or what starts programs;
of the others those tests are left out that use a broker. What is fast by this rule is held to it, with ``--fast`` and
without: it cannot start a program.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_CHECKOUT: Final = Path(__file__).parents[1]
_OURS: Final = ("stablediffusiond", "tests", "tools")
#: What takes seconds to import.
_HEAVY: Final = {"torch", "diffusers", "transformers"}
#: What programs are started and looked at with.
_PROGRAMS: Final = {"subprocess", "psutil", "tools.daemons", "tools.private_broker", "tools.private_cluster"}
_BROKERS: Final = {"broker", "own_broker", "absent_broker"}
#: Python's own names for what happens when a program starts.
_STARTS: Final = ("subprocess.Popen", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system")


class NotFast(Exception):
    """Raised where a test that should need nothing but Python needs more."""


class _Guard:
    """Stops, in this process, what a fast test must not do."""

    fast_test = False
    only_fast_tests = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.fast_test and event.startswith(_STARTS):
            raise NotFast(f"a program was started: {event}")
        if self.only_fast_tests and event == "import" and str(arguments[0]).partition(".")[0] in _HEAVY:
            raise NotFast(f"{arguments[0]} was imported")


_guard = _Guard()
sys.addaudithook(_guard)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="only tests that need nothing but Python: no broker, no torch, no program"
    )


def pytest_configure(config: pytest.Config) -> None:
    _guard.only_fast_tests = config.option.fast


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.option.fast and collection_path.name.startswith("test_") and slow_import(collection_path):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.fast:
        slow = [item for item in items if not _is_fast(item)]
        items[:] = filter(_is_fast, items)
        config.hook.pytest_deselected(items=slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _guard.fast_test = _is_fast(item)
    try:
        return (yield)
    finally:
        _guard.fast_test = False


def _is_fast(item: pytest.Item) -> bool:
    return slow_import(item.path) is None and _BROKERS.isdisjoint(getattr(item, "fixturenames", ()))


@cache
def slow_import(file: Path) -> str | None:
    """The first import that makes a file of tests slow, if there is one."""
    seen = {file}
    to_read = [file]
    while to_read:
        for name in _imports(to_read.pop()):
            if name.partition(".")[0] in _HEAVY or name in _PROGRAMS:
                return name
            if (ours := _file_of(name)) and ours not in seen:
                seen.add(ours)
                to_read.append(ours)
    return None


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """The modules that ``file`` imports when it is imported; of ``from a import b`` both ``a`` and ``a.b``."""
    return tuple(dict.fromkeys(_names(ast.parse(file.read_text("utf-8")).body)))


def _names(statements: Iterable[ast.AST]) -> Iterator[str]:
    for each in statements:
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            yield from (f"{each.module}.{alias.name}" for alias in each.names)
            yield str(each.module)
        elif isinstance(each, ast.If | ast.Try | ast.With):
            yield from _names(ast.iter_child_nodes(each))


def _file_of(name: str) -> Path | None:
    if name.partition(".")[0] not in _OURS:
        return None
    path = _CHECKOUT.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
