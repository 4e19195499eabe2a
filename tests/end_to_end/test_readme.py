"""Every command of the README, as it stands there.

Those that want running daemons run in a network of their own, where the default ports are free: the broker and both
daemons start there with their default settings.
"""

import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from stablediffusiond.settings import Settings, load
from tests.own_network import in_own_network
from tests.project.test_demo import ENVIRONMENT, clone

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"<!-- tested: (\w+) -->\n```(\w+)\n(.*?)```", README, re.DOTALL)

_SERVICE = """
import os, subprocess, sys
from tools.daemons import request_daemon, response_daemon
from tools.private_broker import PrivateBroker
with PrivateBroker(port=5672), request_daemon({}) as requestd:
    with response_daemon({"STABLEDIFFUSIOND_RESPONSES__PORT": "50007"}) as responsed:
        requestd.wait_ready(); responsed.wait_ready()
        sys.exit(subprocess.run(sys.argv[1:], cwd=os.environ["SCRATCH"]).returncode)
"""


def blocks(kind: str) -> list[tuple[str, str]]:
    return [(language, text) for tested, language, text in BLOCKS if tested == kind]


def test_every_block_says_how_it_is_tested() -> None:
    assert len(BLOCKS) == README.count("```") // 2
    assert {kind for kind, _, _ in BLOCKS} == {"clone", "ci", "daemons", "settings", "systemd"}


def test_the_first_command_draws_the_same_picture_in_two_fresh_clones(tmp_path: Path) -> None:
    [(_, text)] = blocks("clone")
    pictures = []
    for name in ("one", "two"):
        folder = clone(tmp_path / name)
        done = subprocess.run(
            ["bash", "-eu", "-c", text],
            cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        pictures.append((folder / "cat.png").read_bytes())
    assert pictures[0] == pictures[1]
    with Image.open(io.BytesIO(pictures[0])) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (128, 128))


def test_the_second_command_is_what_ci_runs() -> None:
    [(_, text)] = blocks("ci")
    assert text.strip() in (CHECKOUT / ".ci/run").read_text()


def test_the_commands_for_running_daemons(tmp_path: Path) -> None:
    script = ["set -euxo pipefail"]
    for place, (language, text) in enumerate(blocks("daemons")):
        if language == "python":
            (tmp_path / f"{place}.py").write_text(text)
            script.append(f"python {place}.py")
        else:
            script.append(text)
    script.append("file() { head -c 4 $1 | tail -c 3; }; for picture in cat results amqp; do file $picture.png; done")
    (tmp_path / "script").write_text("\n".join(script))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("STABLEDIFFUSIOND_")},
        "SCRATCH": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        in_own_network([sys.executable, "-c", _SERVICE, "bash", str(tmp_path / "script")], environment),
        env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("PNG" * 3)
    assert '"type":"done"' in done.stdout


@pytest.mark.parametrize("text", [text for _, text in blocks("settings")])
def test_the_settings_are_settings(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STABLEDIFFUSIOND_CONFIG", raising=False)
    assert tomllib.loads(text)
    (tmp_path / "settings.toml").write_text(text)
    assert isinstance(load(tmp_path / "settings.toml"), Settings)
