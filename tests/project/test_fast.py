"""``--fast`` is for whoever has changed a line: many tests, and nothing but Python is needed for them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fast import slow_import

CHECKOUT = Path(__file__).parents[2]


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


def test_those_that_are_fast_start_no_program_and_do_without_torch() -> None:
    """All of them, with one example each, where neither is to be had."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fast", "-q", "-p", "tests.project.only_python", "-p", "no:cacheprovider",
         "--hypothesis-profile", "one example"],
        cwd=CHECKOUT, env={**os.environ, "FUZZ_EXAMPLES": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    counted = re.search(r"(\d+) passed, (\d+) deselected", done.stdout)
    assert counted
    passed, with_a_broker = map(int, counted.groups())
    assert passed > 1000
    assert with_a_broker > 0


def test_a_program_would_have_been_noticed(tmp_path: Path) -> None:
    for body in ("import subprocess; subprocess.run(['true'])", "import torch", "import os; os.system('true')"):
        (tmp_path / "test_slow.py").write_text(f"def test_slow():\n    {body}\n")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "tests.project.only_python", tmp_path / "test_slow.py"],
            cwd=CHECKOUT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "NotOnlyPython" in done.stdout, body
