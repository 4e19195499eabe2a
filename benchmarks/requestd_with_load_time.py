"""The request daemon, in which a model takes at least so long to load: ``python -m … LOAD_SECONDS``."""

import sys
import threading
import time
from unittest.mock import patch

from stablediffusiond.engine.device import MeasurableDenoiser
from stablediffusiond.requestd import daemon, model_loader
from stablediffusiond.settings import Settings

LOAD_SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0


def open_model(settings: Settings, name: str) -> MeasurableDenoiser:
    """What it takes less is waited for; the first one, at the start, takes what it takes."""
    began = time.monotonic()
    opened = model_loader.open_model(settings, name)
    if name != "doodle":
        threading.Event().wait(max(0.0, LOAD_SECONDS - (time.monotonic() - began)))
    return opened


if __name__ == "__main__":
    patch.object(daemon, "_import_and_load", open_model).start()
    sys.exit(daemon.main([]))
