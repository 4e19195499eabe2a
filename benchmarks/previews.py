"""What previews cost: the same jobs with and without a listener to all previews, in turn, in one run.

    python benchmarks/previews.py [--jobs 16] [--steps 50] [--rounds 5] [--model doodle] [--output FILE.json]

The engine is driven in this process; each preview is encoded as a JPEG in a thread beside it, as the daemon does it.
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from stablediffusiond.engine.capacity import Capacity, warm_up
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Event, Failed, Finished, Previewed, Task
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.pictures.encoding import encode_preview
from stablediffusiond.settings import EngineSettings, ModelSettings

INTERVAL_SECONDS = EngineSettings().progress_interval_seconds


def draw(denoiser: PipelineDenoiser, capacity: Capacity, jobs: int, steps: int, watched: bool) -> float:
    """Seconds for all jobs; ``watched``: with a listener to all previews."""
    ended = 0

    def on_event(event: Event) -> None:
        nonlocal ended
        match event:
            case Failed():
                raise event.error
            case Previewed():
                previews.append(encoders.submit(encode_preview, event.pixels))
            case Finished():
                ended += 1
                if ended == jobs:
                    engine.stop()

    previews: list[object] = []
    with ThreadPoolExecutor(2) as encoders:
        engine = Engine(denoiser, capacity, progress_interval_seconds=INTERVAL_SECONDS, on_event=on_event)
        for key in range(jobs):
            engine.submit(Task(key, CompleteRequest(prompt="a red cat", steps=steps, seed=key, id=str(key))))
            if watched:
                engine.show_previews(key)
        began = time.perf_counter()
        engine.run()
        taken = time.perf_counter() - began
    if watched and not previews:
        raise SystemExit("no preview came: more steps are needed")
    return taken


def main() -> None:
    parser = report.options(__doc__, "previews.json")
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="doodle")
    chosen = parser.parse_args()
    denoiser = load(ModelSettings(name=chosen.model))
    capacity = warm_up(denoiser, None)
    took: dict[bool, list[float]] = {watched: [] for watched in (False, True)}
    for _ in range(chosen.rounds):
        for watched, seconds in took.items():
            seconds.append(draw(denoiser, capacity, chosen.jobs, chosen.steps, watched))
    ratios = [with_previews / without for without, with_previews in zip(took[False], took[True], strict=True)]
    report.write(
        {
            "seconds_without": [round(each, 2) for each in took[False]],
            "seconds_with": [round(each, 2) for each in took[True]],
            "with_to_without": round(statistics.median(ratios), 4),
        },
        chosen.output,
    )


if __name__ == "__main__":
    main()
