"""The events of a job, as programs read them: any number of ``Image`` and ``Progress``, one ``Done`` or ``Failed``."""

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import ValidationError

from stablediffusiond.errors import ResponsesAway
from stablediffusiond.frames import Frame
from stablediffusiond.messages.replies import Done, Failed, ImageFacts, PreviewFacts, Progress

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True)
class Image:
    """One picture of a job, and all that is needed to draw it again."""

    facts: ImageFacts
    data: bytes = field(repr=False)  #: its file: a PNG, or as the request asked
    content_type: str = "image/png"

    @property
    def id(self) -> str:
        """The job's id."""
        return self.facts.id

    def picture(self) -> "PIL.Image.Image":
        """The picture, decoded: RGB, ``facts.width`` by ``facts.height`` pixels."""
        import PIL.Image  # noqa: PLC0415 (a program that only writes files need not wait for Pillow)

        picture = PIL.Image.open(io.BytesIO(self.data))
        picture.load()
        return picture


@dataclass(frozen=True)
class Preview:
    """What an image looks like so far."""

    facts: PreviewFacts
    jpeg: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.facts.id


Event = Image | Preview | Progress | Done | Failed


def from_frame(frame: Frame) -> Event | None:
    """The event in ``frame``; None for a frame of a type that this client does not know.

    Raises:
        ResponsesAway: the frame's type is known and its content is not: two versions that do not fit.
    """
    head = frame.head
    try:
        match head.get("type"):
            case "image":
                facts = ImageFacts.model_validate({**head, "type": head.get("job_type")})
                return Image(facts, frame.data or b"", str(head.get("content_type") or "image/png"))
            case "preview":
                return Preview(PreviewFacts.model_validate(head), frame.data or b"")
            case "done":
                return Done.model_validate(head)
            case "failed":
                return Failed.model_validate(head)
            case "progress":
                return Progress.model_validate(head)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = f"{head.get('type')} reply, {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ResponsesAway(
            f"the daemon's replies are not of this client's version ({what}); update one of them"
        ) from None
    return None
