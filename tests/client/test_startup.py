import json
import subprocess
import sys

import pytest

from tests.client.running import ROOT

_ASK = """
import json, sys
sys.argv[1:] = {arguments!r}
from stablediffusiond.cli import main
code = main()
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["--version"], {"torch", "diffusers", "numpy", "PIL", "rich", "pika", "pydantic_settings"}),
        (["--help"], {"torch", "diffusers", "numpy", "PIL", "rich", "pika", "pydantic_settings"}),
        (["status", "--help"], {"torch", "diffusers", "numpy", "PIL", "rich", "pika", "pydantic_settings"}),
        (["status", "--json"], {"torch", "diffusers", "numpy", "PIL", "rich"}),
        (['{"prompt": "cat"}'], {"torch", "diffusers", "numpy", "PIL", "rich"}),
    ],
)
def test_nothing_is_imported_that_is_not_needed(arguments: list[str], spared: set[str], free_port: int) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port}/%2F"
    ended = subprocess.run(
        [sys.executable, "-c", _ASK.format(arguments=arguments)],
        env={"PYTHONPATH": str(ROOT), "STABLEDIFFUSIOND_BROKER__URL": url},
        capture_output=True,
        check=True,
    )
    loaded = set(json.loads(ended.stderr.splitlines()[-1]))
    assert "click" in loaded
    assert not loaded & spared
