"""``--fast``: only the tests that need nothing but Python, found by what they import and which fixtures they use.

A file is left unopened if it imports, itself or through other modules of this project, torch or what starts programs;
of the others those tests are left out that use a broker.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

_CHECKOUT: Final = Path(__file__).parents[1]
_OURS: Final = ("stablediffusiond", "tests", "tools")
#: What takes seconds to import, and what programs are started and looked at with.
_SLOW: Final = {"torch", "diffusers", "transformers", "subprocess", "psutil"}
_SLOW_OF_OURS: Final = {"tools.daemons", "tools.private_broker", "tools.private_cluster"}
_BROKERS: Final = {"broker", "own_broker"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fast", action="store_true", help="only tests that need nothing but Python: no broker, no torch, no program"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("fast") and collection_path.name.startswith("test_") and slow_import(collection_path):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("fast"):
        slow = [item for item in items if not _BROKERS.isdisjoint(getattr(item, "fixturenames", ()))]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)


def slow_import(file: Path) -> str | None:
    """The first import that makes a file of tests slow, if there is one."""
    seen = {file}
    to_read = [file]
    while to_read:
        for name in _imports(to_read.pop()):
            if name.partition(".")[0] in _SLOW or name in _SLOW_OF_OURS:
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
