"""The engine: a thread that draws while there is something to do, and what other threads may ask of it.

The loop's thread hands tasks in and gets events out; everything else belongs to the engine's thread alone.
"""

import time
from collections.abc import Callable

from stablediffusiond.engine.capacity import CallSizes
from stablediffusiond.engine.commands import Commands
from stablediffusiond.engine.device import Denoiser
from stablediffusiond.engine.drawing import Drawing
from stablediffusiond.engine.job import Event, Kind, Task
from stablediffusiond.engine.progress import Distance, Progress
from stablediffusiond.histogram import Histogram
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request


class Engine:
    """Owns ``denoiser``."""

    def __init__(
        self,
        denoiser: Denoiser,
        capacity: CallSizes,
        *,
        progress_interval_seconds: float,
        on_event: Callable[[Event], None],
        high_alone: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._denoiser = denoiser
        self._clock = clock
        self._commands = Commands()
        self._progress = Progress(progress_interval_seconds, clock)
        self._drawing = Drawing(
            denoiser, capacity, self._progress, on_event=on_event, high_alone=high_alone, clock=clock
        )
        self._busy_since: float | None = None

    # From any thread

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        """``request`` with what it leaves to the model chosen; and warnings about what the model has no use for.

        Raises:
            InvalidRequest: the model cannot draw it.
        """
        return self._denoiser.complete(request)

    def kind_of(self, request: Request) -> Kind:
        """The size that ``request`` is drawn in."""
        return self._denoiser.kind_of(request)

    def rows_of(self, request: CompleteRequest) -> int:
        """The rows that each of its images has in a call of the denoiser."""
        return self._denoiser.rows_of(request)

    def names_files(self, request: Request) -> bool:
        """Whether ``read_files`` has anything to do."""
        return self._denoiser.names_files(request)

    def read_files(self, request: Request) -> object:
        """The LoRAs and ControlNets of ``request``, for its task: takes its time.

        Raises:
            InvalidRequest, ModelError: they are not there, or not for this model.
        """
        return self._denoiser.read_files(request)

    def submit(self, task: Task) -> None:
        """Have ``task`` drawn; events follow."""
        self._commands.submit(task)

    def cancel(self, key: int) -> None:
        """End a task with Failed(Cancelled) before its next step; nothing happens for one that is not here."""
        self._commands.cancel(key)

    def show_previews(self, key: int) -> None:
        """Have the images of a task shown as they come, as often as its progress is said."""
        self._drawing.show_previews(key)

    def pause(self, reason: str) -> None:
        """Begin no further step until ``resume``."""
        self._commands.pause(reason)

    def resume(self) -> None:
        self._commands.resume()

    @property
    def paused(self) -> str | None:
        """Why no step is made."""
        return self._commands.paused

    def how_far(self, key: int) -> Distance | None:
        """How far a task is; None if it has not been taken in, or has ended."""
        return self._progress.distance(key)

    @property
    def step_seconds(self) -> Histogram:
        """What a call of the denoiser and its scheduler steps take."""
        return self._drawing.step_seconds

    @property
    def rows_per_call(self) -> Histogram:
        """How many rows such a call has."""
        return self._drawing.rows_per_call

    @property
    def healthy(self) -> bool:
        """Whether the device has answered lately, or has nothing to do."""
        busy_since = self._busy_since
        return busy_since is None or self._clock() - busy_since < self._drawing.longest_seconds

    def stop(self) -> None:
        """Have ``run`` return after the step it is in; tasks in flight are dropped, and no event says so."""
        self._commands.stop()

    # On the engine's thread

    def run(self) -> None:
        """Draw until ``stop``. Call it on the thread that loaded the model.

        Two threads that have used torch have two pools of OpenMP threads; with more of those than cores they no longer
        spin between two operations but sleep, and a small UNet takes twice the time.
        """
        while not self._commands.stopping:
            self._wait_for_work()
            self._take_in()
            if self._commands.paused is None and not self._commands.stopping:
                self.step()

    def _wait_for_work(self) -> None:
        self._busy_since = None
        self._commands.wait(lambda: not self._drawing.idle)
        self._busy_since = self._clock()

    def _take_in(self) -> None:
        """Take what others handed in, and drop what need not be drawn any more."""
        submitted, cancelled = self._commands.take()
        for task in submitted:
            self._drawing.add(task)
        self._drawing.drop_void(cancelled)

    def step(self) -> None:
        """One tick."""
        self._drawing.step()
