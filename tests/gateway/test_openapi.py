"""``/openapi.json`` is true: Schemathesis asks for all that it says, and for what it does not allow."""

import subprocess
import sys
from pathlib import Path

from tests.gateway.conftest import Running, running
from tools.private_broker import PrivateBroker


def test_the_description_is_true(broker: PrivateBroker, tmp_path: Path) -> None:
    """Nobody draws meanwhile. What fits the schema may yet contradict itself, and what is being cancelled is still there."""
    with running(broker, tmp_path) as served:
        served.requestd.stop()
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{served.address}/openapi.json", "--seed", "1",
             "--phases", "fuzzing,stateful", "--max-examples", "15", "--exclude-checks", "positive_data_acceptance,use_after_free",
             "--request-timeout", "20", "--exclude-path-regex", "events"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_what_it_describes_is_what_there_is(served: Running) -> None:
    described = served.client.get("/openapi.json").json()["paths"]
    for path in described:
        answer = served.client.request("TRACE", path.replace("{id}", "x").replace("{index}", "0"))
        methods = {method.strip() for method in answer.headers["allow"].split(",")} - {"HEAD"}
        assert methods == {method.upper() for method in described[path]}
