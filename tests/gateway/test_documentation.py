"""What docs/gateway.md shows works as it stands there, but for the port."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.gateway.conftest import Running

TEXT = (Path(__file__).parents[2] / "docs/gateway.md").read_text("utf-8")
BLOCKS = re.findall(r"<!-- tested -->\n```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def test_the_first_requests(served: Running, tmp_path: Path) -> None:
    assert [language for language, _ in BLOCKS] == ["sh", "python"]
    for language, text in BLOCKS:
        here = text.replace("localhost:50008", served.address.removeprefix("http://"))
        program = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, here], cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")
        (tmp_path / "cat.png").unlink()


def test_every_path_stands_there(served: Running) -> None:
    for path, methods in served.client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            shown = path.replace("{id}", "ID").replace("{index}", "N")
            assert f"`{method.upper()} {shown}`" in TEXT
