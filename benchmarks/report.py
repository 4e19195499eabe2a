"""What every benchmark ends with: figures as JSON, a plot, and on which machine it was."""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def options(description: str | None, output: str) -> argparse.ArgumentParser:
    """A parser that has ``--output`` already: the JSON file; its plot lies beside it."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help=f"write FILE and its plot, for example docs/benchmarks/{output}")
    return parser


def write(figures: dict[str, Any], output: Path | None) -> None:
    """Print the figures, and keep them in ``output`` if there is one."""
    text = json.dumps({**figures, "machine": machine()}, indent=2)
    print(text)
    if output:
        output.write_text(text + "\n", "utf-8")


def _processor() -> str:
    """Linux's name for it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
