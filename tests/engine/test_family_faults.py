"""What befalls one image leaves the others as they would have been: for several families of models, in one batch."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Drawn, Event, Failed, Kind, Pixels, Previewed, Stepped, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.families import opened, save

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]
Ended = dict[int, Pixels | str]
JOBS: list[Fields] = [
    {"prompt": "a red cat", "steps": 5, "seed": 1},
    {"prompt": "a blue dog", "steps": 4, "seed": 2},
    {"prompt": "a tree", "steps": 6, "seed": 3},
]


@pytest.fixture(scope="module", params=["Stable Diffusion XL", "Stable Diffusion 3", "FLUX.1 dev", "Z-Image"])
def denoiser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PipelineDenoiser:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    made = opened(folder)
    made.warm_up()
    return made


@pytest.fixture(scope="module")
def expected(denoiser: PipelineDenoiser) -> Ended:
    """Without anything amiss."""
    return Run(denoiser).to_the_end()


class Run:
    """The jobs in one batch, and whatever is done to them after their second step."""

    def __init__(self, denoiser: PipelineDenoiser, jobs: list[Fields] = JOBS, rows: int = 8) -> None:
        self.now, self.events = 0.0, list[Event]()
        self.engine = Engine(
            denoiser, Capacity(Kind(64, 64), {rows: 1.0}, images=rows // 2), progress_interval_seconds=0,
            on_event=self.events.append, clock=lambda: self.now,
        )  # fmt: skip
        self.submit(*jobs)

    def submit(self, *jobs: Fields, first: int = 0) -> None:
        for key, fields in enumerate(jobs, start=first):
            deadline = fields.get("deadline")
            asked = {"width": 64, "height": 64, **{name: fields[name] for name in fields if name != "deadline"}}
            self.engine.submit(Task(key, CompleteRequest.model_validate(asked), deadline))
        self.engine._take_in()

    def steps(self, count: int) -> "Run":
        for _ in range(count):
            self.engine._take_in()
            self.engine.step()
        return self

    def run_of(self, key: int) -> Any:
        samples = self.engine._drawing._batcher.samples
        return state_of(next(sample for sample in samples if sample.task.key == key))

    def to_the_end(self) -> Ended:
        for _ in range(100):
            if self.engine._drawing.idle:
                break
            self.steps(1)
        ended: Ended = {event.task.key: event.pixels for event in self.events if isinstance(event, Drawn)}
        return ended | {event.task.key: event.error.code for event in self.events if isinstance(event, Failed)}


def assert_the_others_are(expected: Ended, got: Ended, *, code: str, but: int = 1) -> None:
    assert got[but] == code
    for key in expected.keys() - {but}:
        difference = np.abs(np.asarray(got[key]).astype(int) - np.asarray(expected[key]).astype(int))
        assert difference.max() <= 1, key


def spoil(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Run], None]:
    def spoil(run: Run) -> None:
        scheduler = run.run_of(1).scheduler.scheduler
        step = scheduler.step
        scheduler.step = lambda *args, **kwargs: (change(step(*args, **kwargs)[0]),)

    return spoil


def break_scheduler(run: Run) -> None:
    def step(*_: object, **__: object) -> None:
        raise IndexError("index 7 is out of bounds")

    run.run_of(1).scheduler.scheduler.step = step


def let_deadline_pass(run: Run) -> None:
    run.now = 1000.0


@pytest.mark.parametrize(
    ("befalls", "code"),
    [
        (lambda run: run.engine.cancel(1), "cancelled"),
        (let_deadline_pass, "expired"),
        (spoil(lambda latents: latents * float("nan")), "model_error"),
        (break_scheduler, "model_error"),
    ],
    ids=["cancelled", "expired", "not numbers", "an exception"],
)
def test_the_others_get_their_pictures(
    denoiser: PipelineDenoiser, expected: Ended, befalls: Callable[[Run], None], code: str
) -> None:
    run = Run(denoiser, [JOBS[0], {**JOBS[1], "deadline": 500.0}, JOBS[2]]).steps(2)
    befalls(run)
    assert_the_others_are(expected, run.to_the_end(), code=code)


@pytest.fixture
def small_device(denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One that has room for a single row; and the rows of the calls that were made."""
    rows: list[int] = []
    eager = denoiser._pipelines.forward._eager

    def one_row(**arguments: Any) -> Any:
        given = next(value for value in arguments.values() if isinstance(value, torch.Tensor | list))
        rows.append(len(given))
        if len(given) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return eager(**arguments)

    monkeypatch.setattr(denoiser._pipelines.forward, "_eager", one_row)
    yield rows
    assert 1 in rows
    assert max(rows) > 1


def test_memory_that_ends_at_two_rows_changes_no_picture(
    denoiser: PipelineDenoiser, small_device: list[int], expected: Ended
) -> None:
    got = Run(denoiser).to_the_end()
    for key, pixels in expected.items():
        assert np.abs(np.asarray(got[key]).astype(int) - np.asarray(pixels).astype(int)).max() <= 1


def test_a_job_of_high_priority_steps_first_and_the_others_are_as_before(
    denoiser: PipelineDenoiser, expected: Ended
) -> None:
    run = Run(denoiser, rows=2).steps(2)
    run.submit({**JOBS[0], "priority": "high", "seed": 9}, first=3)
    run.steps(1)
    assert run.run_of(3).scheduler.steps_done == 1
    got = run.to_the_end()
    for key, pixels in expected.items():
        assert np.abs(np.asarray(got[key]).astype(int) - np.asarray(pixels).astype(int)).max() <= 1


def test_progress_and_previews(denoiser: PipelineDenoiser) -> None:
    run = Run(denoiser, [{**JOBS[0], "preview_every": 2}])
    run.to_the_end()
    steps = [event.step for event in run.events if isinstance(event, Stepped)]
    assert steps == sorted(steps)
    assert steps[-1] == next(event.steps for event in run.events if isinstance(event, Stepped))
    shown = [event.pixels for event in run.events if isinstance(event, Previewed)]
    assert len(shown) >= 2
    assert all(pixels.shape[0] == pixels.shape[1] in {4, 8} for pixels in shown)
    assert all(pixels.std() > 1 for pixels in shown)
