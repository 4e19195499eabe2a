"""What images that step notice of other work on the same device: a model that is loaded, a picture that is enlarged.

    python -m benchmarks.beside [--rounds 3]

Four images of the built-in model step all the time. Given are the median and the longest time between two of their
steps: alone, while the same model is loaded a second time in a thread, and while a network of the size of Real-ESRGAN's
small ones enlarges a picture of 256 x 256 pixels, tile by tile. These are measured in turn, in one run.
"""

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from stablediffusiond.engine.capacity import warm_up
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Event, Finished, Stepped, Task
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.upscaler_files import spandrel
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import FolderSettings, ModelSettings

_SECONDS = 4.0


class Stepping:
    """Images that step on a thread of their own, and when they did."""

    def __init__(self, folder: Path) -> None:
        self.at: list[float] = []
        self.finished = threading.Event()
        self._folders = FolderSettings(upscalers=folder)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()
        self._key = 0

    def _run(self) -> None:
        self.denoiser: PipelineDenoiser = load(ModelSettings(), folders=self._folders)
        loaded = LoadedModels("doodle", LoadedModel(self.denoiser, warm_up(self.denoiser, None)))
        self.engine = Engine(loaded, loaded, progress_interval_seconds=0, on_event=self._on_event)
        self._ready.set()
        self.engine.run()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Stepped) and event.task.request.type == "txt2img":
            self.at.append(time.monotonic())
        if isinstance(event, Finished) and event.task.request.type == "upscale":
            self.finished.set()

    def submit(self, image: Image.Image | None = None, **fields: object) -> int:
        asked = {"prompt": "a red cat", "id": "x", **fields, **({"image": b"opened"} if image else {})}
        request, _ = self.denoiser.complete(Request.from_fields(asked)[0])
        if image is not None:
            request = request.model_copy(update={"width": 4 * image.width, "height": 4 * image.height})
        self._key += 1
        self.engine.submit(Task(self._key, request, init_image=image, files=self.denoiser.read_files(request)))
        return self._key

    def stop(self) -> None:
        self.engine.stop()
        self._thread.join()

    def gaps_while(self, work: Callable[[], None]) -> list[float]:
        """Milliseconds between two steps of the images, each of which steps in every call."""
        first = len(self.at)
        work()
        calls = self.at[first::4]
        return [1000 * (after - before) for before, after in itertools.pairwise(calls)]


def upscaler(folder: Path) -> None:
    spandrel()
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact  # type: ignore[import-untyped,unused-ignore]

    save_file(SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4).state_dict(), folder / "small.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    folder = Path(tempfile.mkdtemp())
    upscaler(folder)
    stepping = Stepping(folder)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8))

    def loading() -> None:
        thread = threading.Thread(target=lambda: warm_up(load(ModelSettings()), None))
        thread.start()
        thread.join()

    def enlarging() -> None:
        stepping.finished.clear()
        stepping.submit(picture, type="upscale", upscaler="small", upscale_by=4)
        stepping.finished.wait()

    kinds: dict[str, Callable[[], None]] = {
        "alone": lambda: time.sleep(_SECONDS), "a model is loaded": loading, "a picture is enlarged": enlarging
    }  # fmt: skip
    found: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, work in kinds.items():
            key = stepping.submit(count=4, steps=900)
            while len(stepping.at) % 4 or not stepping.at:
                time.sleep(0.01)
            found[name].append(stepping.gaps_while(work))
            stepping.engine.cancel(key)
    stepping.stop()
    alone = statistics.median(statistics.median(gaps) for gaps in found["alone"])
    for name, each in found.items():
        median = statistics.median(statistics.median(gaps) for gaps in each)
        longest = statistics.median(max(gaps) for gaps in each)
        print(f"{name:24} {median:7.1f} ms between two steps ({median / alone:.2f}), {longest:7.1f} ms at most")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
