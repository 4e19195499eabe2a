"""A request with what its client left to the model chosen."""

from pydantic import Field

from stablediffusiond.messages.request import Request


class CompleteRequest(Request):
    """What the engine draws. Its own defaults are those of a model of which nothing else is known."""

    steps: int = 50
    guidance_scale: float = 7.5
    #: Width and height of the second pass, if there is one.
    second_size: tuple[int, int] | None = Field(None, exclude=True)

    @property
    def guided(self) -> bool:
        return self.guidance_scale > 1

    @staticmethod
    def of(request: Request, steps: int = 50, guidance_scale: float = 7.5) -> "CompleteRequest":
        """``request`` with these where it says nothing."""
        fields = dict(request)
        if request.steps is None:
            fields["steps"] = steps
        if request.guidance_scale is None:
            fields["guidance_scale"] = guidance_scale
        return CompleteRequest.model_construct(request.model_fields_set, **fields)
