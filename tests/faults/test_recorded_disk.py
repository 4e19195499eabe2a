"""The disk that loses what was not synced loses that, and nothing else; and everything that is written is recorded."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.disk_model import WRITTEN_UNASKED_SECONDS, DiskModel, Kind, Operation, Tree
from tests.faults.recorded_disk import RecordedDisk

SEEDS = range(40)
SECOND = 10**9

#: Writes in the ways that there are, and dies of a SIGKILL.
WRITER = """
import os, signal

def write(name, data, sync=False):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, data[:1000])
    os.writev(fd, [data[1000:2000], data[2000:]])
    if sync:
        os.fsync(fd)
    os.close(fd)

root = os.environ["RECORDED_FOLDER"]
os.mkdir(f"{root}/folder")
write(f"{root}/folder/synced", b"s" * 20_000, sync=True)
write(f"{root}/folder/lost", b"l" * 20_000)
write(f"{root}/renamed.tmp", b"r" * 20_000, sync=True)
os.rename(f"{root}/renamed.tmp", f"{root}/renamed")
write(f"{root}/removed", b"", sync=True)
os.unlink(f"{root}/removed")
fd = os.open(f"{root}/log", os.O_RDWR | os.O_CREAT)
os.write(fd, b"0123456789")
os.pwrite(fd, b"ab", 4)
os.ftruncate(fd, 8)
os.fdatasync(fd)
os.pwrite(fd, b"XY", 0)
fd = os.open(f"{root}/at once", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC)
os.write(fd, b"at")
os.write(fd, b" once")
os.mkdir(f"{root}/last")
os.rmdir(f"{root}/last")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def disk(tmp_path: Path) -> RecordedDisk:
    for name in ("data", "beside"):
        (tmp_path / name).mkdir()
    (tmp_path / "data" / "old").write_bytes(b"old")
    return RecordedDisk(tmp_path / "data", tmp_path / "beside")


def write(disk: RecordedDisk) -> None:
    done = subprocess.run([sys.executable, "-c", WRITER], env={**os.environ, **disk.environment}, check=False)
    assert done.returncode == -signal.SIGKILL


def test_everything_that_is_written_is_recorded(disk: RecordedDisk) -> None:
    write(disk)
    assert disk.unrecorded() == []
    (disk.folder / "folder" / "lost").write_bytes(b"by somebody else")
    assert disk.unrecorded() == ["folder/lost"]


@pytest.mark.parametrize("seed", range(5))
def test_what_was_synced_is_there_after_a_power_cut(disk: RecordedDisk, seed: int) -> None:
    write(disk)
    disk.cut_power(random.Random(seed))
    there = {path: (disk.folder / path).read_bytes() for path in ("old", "folder/synced", "renamed", "at once")}
    assert there == {"old": b"old", "folder/synced": b"s" * 20_000, "renamed": b"r" * 20_000, "at once": b"at once"}
    assert (disk.folder / "log").read_bytes() in {b"0123ab67", b"XY23ab67"}


def test_what_was_not_synced_may_be_lost_in_part(disk: RecordedDisk) -> None:
    write(disk)
    found = set()
    for seed in SEEDS:
        lost = disk._model().after_power_cut(2**63, random.Random(seed)).get("folder/lost")
        found.add("all" if lost == b"l" * 20_000 else "nothing" if not lost else "some of it")
    assert found == {"all"}, "it was written long ago, and the kernel has written it unasked"

    for seed in SEEDS:
        model = disk._model()
        last = max(operation.nanoseconds for operation in disk._operations())
        lost = model.after_power_cut(last, random.Random(seed)).get("folder/lost")
        found.add("all" if lost == b"l" * 20_000 else "nothing" if not lost else "some of it")
    assert found == {"all", "nothing", "some of it"}


def test_a_disk_that_lies_forgets_what_was_synced(disk: RecordedDisk) -> None:
    since = time.monotonic()
    write(disk)
    disk.cut_power(random.Random(1), lied_since=since)
    assert [path.name for path in disk.folder.iterdir()] == ["old"]


def test_what_was_there_at_the_last_sync_of_everything_is_safe(disk: RecordedDisk) -> None:
    write(disk)
    disk.sync()
    disk.cut_power(random.Random(1))
    assert (disk.folder / "folder" / "lost").read_bytes() == b"l" * 20_000
    assert not (disk.folder / "last").exists()


# The model


def cut(operations: list[tuple[Kind, dict[str, object]]], *, after_seconds: float = 0, seed: int = 0) -> Tree:
    """The power goes so long after the operations, of which there is one a nanosecond."""
    model = DiskModel(Path("/nowhere"))
    for number, (kind, fields) in enumerate(operations):
        model.feed(Operation(number, kind, **{"inode": 0, "offset": 0, **fields}))  # type: ignore[arg-type]
    return model.after_power_cut(len(operations) + int(after_seconds * SECOND), random.Random(seed))


def new_file(name: str, data: bytes, inode: int) -> list[tuple[Kind, dict[str, object]]]:
    return [("opened", {"inode": inode, "path": name}), ("written", {"inode": inode, "data": data})]


def test_names_come_in_their_order() -> None:
    found = {tuple(cut([*new_file("a", b"", 1), *new_file("b", b"", 2)], seed=seed)) for seed in SEEDS}
    assert found == {(), ("a",), ("a", "b")}


def test_a_sync_of_one_file_makes_all_names_safe_and_its_own_data_only() -> None:
    operations = [*new_file("a", b"a", 1), *new_file("b", b"b", 2), ("synced", {"inode": 2})]
    found = [cut(operations, seed=seed) for seed in SEEDS]  # type: ignore[arg-type]
    assert {tree["b"] for tree in found} == {b"b"}
    assert {tree["a"] for tree in found} == {b"", b"a"}


@pytest.mark.parametrize(("seconds", "contents"), [(6, {b"", b"a"}), (WRITTEN_UNASKED_SECONDS + 1, {b"a"})])
def test_the_kernel_writes_unasked(seconds: float, contents: set[bytes]) -> None:
    assert {cut(new_file("a", b"a", 1), after_seconds=seconds, seed=seed)["a"] for seed in SEEDS} == contents


def test_a_file_that_replaces_another_is_never_empty() -> None:
    """As ext4 does it; RabbitMQ relies on that for its feature flags."""
    renamed = [
        *new_file("a", b"old", 1), ("synced", {"inode": 1}), *new_file("a.tmp", b"new", 2),
        ("renamed", {"path": "a.tmp", "second_path": "a"}),
    ]  # fmt: skip
    emptied = [
        *new_file("a", b"old", 1), ("synced", {"inode": 1}), ("opened", {"inode": 1, "path": "a", "offset": 1}),
        ("written", {"inode": 1, "data": b"new"}), ("closed", {"inode": 1}),
    ]  # fmt: skip
    for operations in (renamed, emptied):
        found = {cut(operations, seed=seed)["a"] for seed in SEEDS}  # type: ignore[arg-type]
        assert found <= {b"old", b"new"}
        assert b"new" in found


def test_a_folder_is_renamed_with_what_is_in_it() -> None:
    operations = [
        ("made_folder", {"path": "a"}), *new_file("a/b", b"b", 1), ("renamed", {"path": "a", "second_path": "c"}),
        ("synced", {"inode": 1}),
    ]  # fmt: skip
    assert cut(operations) == {"c": None, "c/b": b"b"}  # type: ignore[arg-type]
