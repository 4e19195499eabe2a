"""What many models cost that nobody asks for: a daemon, and its broker, at rest.

    python -m benchmarks.idle_models [--models 200] [--seconds 30] [--output FILE.json]

The daemon draws without a model (tests/faults/fake_denoiser.py): what is measured is its queues and nothing else.
"""

import asyncio
import sys
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import report
from benchmarks.trace_daemons import queues_of
from stablediffusiond.broker.topology import Topology
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker


def main() -> None:
    parser = report.options(__doc__, "idle_models.json")
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    figures: dict[str, object] = {"models": given.models, "queues": 3 * given.models}
    with PrivateBroker() as broker:
        for models in (1, given.models):
            names = [f"m{number}" for number in range(1, models)]
            environment = {
                "STABLEDIFFUSIOND_CONFIG": "",
                "STABLEDIFFUSIOND_BROKER__URL": broker.url,
                **{f"STABLEDIFFUSIOND_MODELS__{name.upper()}__NAME": "doodle" for name in names},
            }
            began = time.monotonic()
            module = "tests.faults.requestd_with_failpoint"
            with Daemon(module, environment, "none", "fake-denoiser") as daemon:
                daemon.wait_ready()
                ready = time.monotonic()
                asyncio.run(queues_of(broker.url, Topology(), names))
                figures[f"{models} models"] = {
                    "seconds_until_ready": round(ready - began, 2),
                    "seconds_more_until_all_queues_are_there": round(time.monotonic() - ready, 2),
                    **_at_rest(daemon.process.pid, broker.pid, given.seconds),
                }
    report.write(figures, given.output)


def _at_rest(daemon: int, broker: int, seconds: float) -> dict[str, float]:
    """Parts of a core, and megabytes, when the start is over."""
    time.sleep(10)
    processes = {"daemon": psutil.Process(daemon), "broker": psutil.Process(broker)}
    before = {name: _cpu_seconds(process) for name, process in processes.items()}
    time.sleep(seconds)
    return {
        f"{name}_{what}": value
        for name, process in processes.items()
        for what, value in (
            ("part_of_a_core", round((_cpu_seconds(process) - before[name]) / seconds, 4)),
            ("megabytes", round(process.memory_info().rss / 1e6, 1)),
        )
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
