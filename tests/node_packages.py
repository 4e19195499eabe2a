"""Packages of npm, installed once a checkout: other people's clients and servers."""

import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "build/node"


def node_package(name: str, version: str) -> Path:
    """The ``node_modules`` that has the package; a folder for each, since npm takes one request at a time."""
    prefix = FOLDER / f"{name}-{version}"
    if not (prefix / "node_modules" / name / "package.json").is_file():
        prefix.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(prefix), f"{name}@{version}"],
            check=True, timeout=300,
        )  # fmt: skip
    return prefix / "node_modules"
