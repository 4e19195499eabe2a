"""Who may load what, proved where nothing else has loaded it before."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "module", ["cli", "client", "gateway.daemon", "responsed.daemon", "requestd.daemon", "broker.publisher"]
)
def test_nobody_but_the_engine_loads_torch(module: str) -> None:
    """Not even the request daemon, until it loads its model: --help and a wrong setting need no torch.

    Nor what serves metrics, which few want.
    """
    program = f"import sys, stablediffusiond.{module}; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert loaded.stdout == "[]\n"


HEAVY = ["torch", "diffusers", "transformers", "prometheus_client"]


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).parent / "lint-imports"
    checked = subprocess.run([linter], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
