"""What is in flight: a task, its samples (one an image), and what is said of them. No tensor is touched here."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from stablediffusiond.errors import JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts, PreviewFacts

Pixels = NDArray[np.uint8]  #: (H, W, 3)


@dataclass(frozen=True)
class Task:
    """One job as the engine is given it; ``key`` is its name here, since ids are the clients' and may repeat."""

    key: int
    request: CompleteRequest
    deadline: float | None = None  #: by the engine's clock, time.monotonic
    init_image: Image | None = None  #: img2img, inpaint: RGB, of the size of what is drawn
    mask: Image | None = None  #: inpaint: L, of that size, white where to draw anew
    controls: Sequence[Image] = ()  #: one for each of its ControlNets: RGB, of that size
    image_prompts: Sequence[Image] = ()  #: one for each of its IP-Adapters: RGB, of any size
    files: object = None  #: what the denoiser has read of the files that it names


@dataclass(frozen=True)
class Kind:
    """What images have to share to share a call of the denoiser."""

    width: int  #: pixels
    height: int
    model: str = ""
    #: What else the call has to be alike in: known once an image has begun, and may change while it is drawn.
    structure: Hashable = field(default=None, repr=False)

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def sides(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def size(self) -> "Kind":
        """What is known before an image has begun: without the structure of its call."""
        return replace(self, structure=None)

    def with_structure(self, structure: Hashable) -> "Kind":
        return self if structure == self.structure else replace(self, structure=structure)

    def __str__(self) -> str:
        return f"{self.model} {self.width}x{self.height}".strip()


@dataclass(eq=False)
class Sample:
    """One image of a task, from its arrival to its picture."""

    task: Task
    index: int
    kind: Kind
    rows: int  #: rows in a call of the denoiser; an estimate until it has begun
    # The denoiser keeps the rest.
    state: object | None = None  #: its own, once the image has begun
    steps: int = 0  #: denoising steps from first to last; known once begun
    step: int = 0  #: denoising steps done
    finished: bool = False  #: only to be decoded
    decoding: Hashable = None  #: what the call that decodes it has to be alike in; known once finished
    unseen: Sequence[str] = ()  #: the ends of its prompts that the model cannot read; known once begun
    ending: bool = False  #: it was reported that its last step is near

    @property
    def begun(self) -> bool:
        return self.state is not None


# What the engine reports of a task: any number of the first five, then exactly one of the last two.


@dataclass(frozen=True)
class Begun:
    task: Task
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Stepped:
    task: Task
    step: int  #: denoising steps done, over all images of the task
    steps: int  #: denoising steps to do


@dataclass(frozen=True)
class Previewed:
    task: Task
    facts: PreviewFacts
    pixels: Pixels = field(repr=False)  #: one for each latent: (H/8, W/8, 3)


@dataclass(frozen=True)
class Ending:
    """One of its images is about to make its last step; once for each image."""

    task: Task


@dataclass(frozen=True)
class Drawn:
    task: Task
    facts: ImageFacts
    pixels: Pixels = field(repr=False)


@dataclass(frozen=True)
class Finished:
    task: Task
    engine_seconds: float


@dataclass(frozen=True)
class Failed:
    task: Task
    error: JobError


Event = Begun | Stepped | Previewed | Ending | Drawn | Finished | Failed
