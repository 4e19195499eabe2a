"""kill -9 of the gateway, the response daemon, the request daemon and the broker, while clients ask over HTTP.

    python -m benchmarks.gateway_chaos [--jobs 500] [--kills 40] [--pause-seconds 5] [--seed 1] [--s3]

Each client asks for a picture with an ``Idempotency-Key`` and reads its events to the end, however often it has to
begin again. The request daemon has no model. What came of it is printed as JSON; the exit code is 1 if a job was lost,
drawn wrong, or twice for one key. With ``--s3`` the store is a bucket.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.gateway.chaos import KILLS, endure
from tests.gateway.conftest import running
from tests.gateway.s3_server import S3Server
from tools.private_broker import PrivateBroker, free_port

BURST_SECONDS = 1.5


@contextlib.contextmanager
def bucket(folder: Path) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Settings and environment of a gateway that has its store there."""
    with S3Server(folder / "s3", free_port()) as server:
        yield {"store": server.store}, server.environment


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--pause-seconds", type=float, default=5, help="between kills, to recover")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s3", action="store_true")
    chosen = parser.parse_args()
    kills = random.Random(chosen.seed).choices(KILLS, k=chosen.kills)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings, others = stack.enter_context(bucket(folder)) if chosen.s3 else ({}, {})
        broker = stack.enter_context(PrivateBroker())
        served = stack.enter_context(running(broker, folder, {"port": str(free_port()), **settings}, others))
        broker.settle()
        found = asyncio.run(endure(served, kills, chosen.jobs, chosen.pause_seconds, BURST_SECONDS))
    told = {
        "keys": chosen.jobs,
        "kills": dict(Counter(kill.__name__ for kill in kills)),
        "seconds": round(time.monotonic() - began),
        **dataclasses.asdict(found),
    }
    print(json.dumps(told))
    return int(bool(found.lost or found.wrong or found.twice or found.jobs != chosen.jobs))


if __name__ == "__main__":
    sys.exit(main())
