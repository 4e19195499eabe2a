"""How the tests are dealt out to several processes by pytest-xdist, which ``./install.sh test`` asks for.

A file stays together, since its tests share a broker and daemons, and each process has a broker of its own. What waits
longest begins first, so that the processes end together; what only computes fills the gaps.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

_TESTS: Final = Path(__file__).parent
#: Folders whose files have one thing in common, and follow each other.
_TOGETHER: Final = ("tests/system/",)
#: Folders and files that take long, the longest first.
_LONGEST_FIRST: Final = (
    "system",
    "faults/test_faults.py",
    "faults/test_disk.py",
    "end_to_end/test_kill.py",
    "faults",
    "project",
    "end_to_end",
    "gateway",
    "engine/test_parity.py",
    "engine",
    "broker",
    "responsed",
    "client",
    "requestd",
)


class Files(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist comes without types
    """Deals out files, in their order."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in _TOGETHER if nodeid.startswith(folder)), nodeid.partition("::")[0])


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Files | None:
    return Files(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are cores, because most tests wait for something most of the time.

    None besides pytest's own for what is over sooner than they have started, or is to be seen while it runs.
    """
    if config.option.fast or config.option.capture == "no":
        return 0
    files = sum(1 for argument in config.args for _ in _files(Path(argument.partition("::")[0])))
    return min(files, len(os.sched_getaffinity(0)) + 1) if files > 1 else 0


def _files(path: Path) -> Iterable[Path]:
    return path.rglob("test_*.py") if path.is_dir() else [path]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    where = item.path.relative_to(_TESTS)
    return next((rank for rank, name in enumerate(_LONGEST_FIRST) if where.is_relative_to(name)), len(_LONGEST_FIRST))
