"""How long the client takes to start, against what it cannot do without: ``python benchmarks/startup.py [ROUNDS]``.

Each command is run as a process of its own, alternated with the others so that a busy moment hits all alike. The
median of each is printed as JSON, with its ratio to the bare imports; the goal for each is 1.5.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Final

_CLIENT: Final = "import sys; from stablediffusiond.cli import main; sys.exit(main(sys.argv[1:]))"
_YARDSTICK: Final = "import pika, pydantic_settings"
#: name -> command, and the exit code by which it is known to have done its work.
COMMANDS: Final = {
    "yardstick": ([sys.executable, "-c", _YARDSTICK], 0),
    "version": ([sys.executable, "-c", _CLIENT, "--version"], 0),
    "help": ([sys.executable, "-c", _CLIENT, "--help"], 0),
    "enqueue_up_to_connecting": ([sys.executable, "-c", _CLIENT, '{"prompt": "cat", "seed": 42}'], 3),
}


def measure(rounds: int) -> dict[str, object]:
    """Median milliseconds and ratio for each command."""
    environment = {
        **os.environ,
        "STABLEDIFFUSIOND_BROKER__URL": "amqp://guest:guest@127.0.0.1:1/%2F",
    }  # nobody is there
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, (command, exit_code) in COMMANDS.items():
            began = time.perf_counter()
            ended = subprocess.run(command, env=environment, capture_output=True, check=False)
            took[name].append(time.perf_counter() - began)
            if ended.returncode != exit_code:
                raise SystemExit(f"{name} ended with {ended.returncode}: {ended.stderr.decode()}")
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    return {
        "rounds": rounds,
        "milliseconds": {name: round(seconds * 1000, 1) for name, seconds in medians.items()},
        "ratio": {name: round(seconds / medians["yardstick"], 3) for name, seconds in medians.items()},
        "largest_resident_megabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 15), indent=2))
