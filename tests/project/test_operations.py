"""docs/operations.md has every line that the log may say at WARNING and above, and none that it may not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
_LOUD = {"log.warning", "log.error", "log.exception", "log.critical"}


def test_the_table_of_log_lines_is_what_the_code_says() -> None:
    code = {line for file in (CHECKOUT / "stablediffusiond").rglob("*.py") for line in said_in(file)}
    text = (CHECKOUT / "docs/operations.md").read_text("utf-8")
    table = text.partition("| line, at WARNING or above |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert sorted(rows) == sorted(code)


def said_in(file: Path) -> Iterator[str]:
    """What is logged in ``file``, with an ellipsis for what differs from one time to the next."""
    nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) in _LOUD]
    named = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node) in _LOUD]
    assert len(named) == len(calls), f"{file}: call it at once, so that this test finds what is said"
    for call in calls:
        message = call.args[0]
        assert isinstance(message, ast.Constant), f"{file}:{call.lineno}: the message has to stand there"
        yield re.sub(r"%[\d.]*[sdrgf]", "…", str(message.value))
