"""One picture by the way that every picture goes: client, broker, request daemon, broker, response daemon, client.

Or, with ``--web``, a page on which to ask for as many as one likes.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.daemons import CHECKOUT, DaemonFailed, gateway, request_daemon, response_daemon
from tools.private_broker import BrokerUnavailable, PrivateBroker

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def say(text: str) -> None:
    print(f"==> {text}", file=sys.stderr, flush=True)


def draw(prompt: str, output: Path, seed: int | None) -> int:
    """Start everything, draw, stop everything; returns the client's exit code."""
    began = time.monotonic()
    say("starting a broker and both daemons")
    with PrivateBroker() as broker:
        environment = {"STABLEDIFFUSIOND_CONFIG": "", "STABLEDIFFUSIOND_BROKER__URL": broker.url}
        with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
            requestd.wait_ready(600)
            responsed.wait_ready()
            environment["STABLEDIFFUSIOND_RESPONSES__PORT"] = str(responsed.port())
            environment["STABLEDIFFUSIOND_RESPONSES__HOST"] = "127.0.0.1"
            say(f"drawing {prompt!r}")
            seeded = [] if seed is None else ["--seed", str(seed)]
            code = subprocess.run(
                [sys.executable, "-m", "stablediffusiond.cli", prompt, "--output", str(output), *seeded],
                env={**os.environ, **environment}, check=False, stdout=subprocess.DEVNULL,
            ).returncode  # fmt: skip
    if code == 0:
        with Image.open(output) as picture:
            size = "{} x {} pixels".format(*picture.size)
        say(f"{output}: {size}, {output.stat().st_size} bytes, {time.monotonic() - began:.0f} s from start to end")
    return code


def serve(port: int) -> int:
    """Start everything and the gateway, and serve until a signal comes; returns the exit code."""
    say("starting a broker, both daemons and the gateway")
    with tempfile.TemporaryDirectory(prefix="stablediffusiond-") as store, PrivateBroker() as broker:
        environment = {"STABLEDIFFUSIOND_CONFIG": "", "STABLEDIFFUSIOND_BROKER__URL": broker.url}
        with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
            requestd.wait_ready(600)
            responsed.wait_ready()
            environment |= {
                "STABLEDIFFUSIOND_RESPONSES__HOST": "127.0.0.1",
                "STABLEDIFFUSIOND_RESPONSES__PORT": str(responsed.port()),
                "STABLEDIFFUSIOND_GATEWAY__PORT": str(port),
                "STABLEDIFFUSIOND_GATEWAY__STORE": store,
            }
            with gateway(environment) as web:
                web.wait_ready()
                say(f"http://localhost:{web.port()} is a page, and OpenAI's and A1111's API; Ctrl-C ends it all")
                return web.process.wait()


def _end(number: int, _: FrameType | None) -> None:
    """Leave through every ``with``, so that nothing is left running; a second signal does not disturb that."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="install.sh demo", description="Draw one picture.")
    parser.add_argument("prompt", nargs="?", default="a red cat")
    parser.add_argument("--output", type=Path, default=CHECKOUT / "demo.png")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--web", action="store_true", help="serve a page, and HTTP for programs, until Ctrl-C")
    parser.add_argument("--port", type=int, default=50008, help="of the page; 0: any free one")
    options = parser.parse_args()
    for number in SIGNALS:
        signal.signal(number, _end)
    try:
        if options.web:
            return serve(options.port)
        return draw(options.prompt, options.output, options.seed)
    except (DaemonFailed, BrokerUnavailable) as error:
        print(f"install.sh demo: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
