"""``--fast`` is for a quick check of a change: many tests, and nothing but Python is needed for them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fast import slow_import

CHECKOUT = Path(__file__).parents[2]


def run_fast(folder: Path, *arguments: str) -> str:
    """What pytest says of the tests there; what it imports while it collects is held to the rule, too."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fast", "-q", "-p", "tests.fast", "-p", "no:cacheprovider", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "fast"),
    [
        ("messages/test_request.py", True),
        ("engine/test_batcher.py", True),
        ("engine/test_forward.py", False),  # torch
        ("engine/test_doodle.py", False),  # torch, by what it imports
        ("client/test_startup.py", False),  # subprocess
        ("end_to_end/test_previews.py", False),  # daemons, by what it imports
        ("broker/test_tls.py", False),  # a broker
    ],
)
def test_what_a_file_imports_says_whether_it_is_fast(file: str, *, fast: bool) -> None:
    assert (slow_import(CHECKOUT / "tests" / file) is None) == fast


def test_there_are_many_and_none_uses_a_broker() -> None:
    printed = run_fast(CHECKOUT, "--collect-only")
    counted = re.search(r"(\d+)/(\d+) tests collected \((\d+) deselected\)", printed)
    assert counted, printed
    fast, considered, with_a_broker = map(int, counted.groups())
    assert fast > 1000
    assert considered - fast == with_a_broker > 0


def test_those_that_need_more_fail(tmp_path: Path) -> None:
    program, torch = "a program was started", "torch was imported"
    refusals = {
        "import subprocess; subprocess.run(['true'])": program,
        "import os; os.system('true')": program,
        "import os; os.fork()": program,
        "import torch": torch,
    }
    tests = (f"def test_{number}():\n    {body}\n" for number, body in enumerate(refusals))
    (tmp_path / "test_slow.py").write_text("\n".join(tests))
    printed = run_fast(tmp_path)
    assert re.findall(r"^E +tests.fast.NotFast: (.*?)(?:: .*)?$", printed, re.M) == list(refusals.values()), printed
