"""Whatever is killed, in whatever order, while clients ask and read: nothing is lost, and a key is one job.

``benchmarks/gateway_chaos.py`` does it for longer.
"""

import asyncio
import random
from pathlib import Path

from tests.gateway.chaos import KILLS, Outcome, endure
from tests.gateway.conftest import running
from tools.private_broker import PrivateBroker

JOBS = 60
FAULTS = 6


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path, free_port: int) -> None:
    order = random.Random(17)
    kills = [*KILLS, *order.choices(KILLS, k=FAULTS - len(KILLS))]
    order.shuffle(kills)
    with PrivateBroker() as broker, running(broker, tmp_path, {"port": str(free_port)}) as served:
        broker.settle()
        assert asyncio.run(endure(served, kills, JOBS, pause_seconds=0, burst_seconds=0.3)) == Outcome(jobs=JOBS)
