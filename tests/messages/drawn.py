"""A request as the engine completes it, and the facts of one of its pictures."""

from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request


def drawn(
    index: int = 0, own_sampler: str = "DDIM", model: str | None = "doodle", **fields: object
) -> tuple[CompleteRequest, ImageFacts]:
    """``own_sampler`` is the model's, for a request that names none."""
    given = {"prompt": "a red cat", "id": "mine", "seed": 42, "width": 128, "height": 64, **fields}
    request = CompleteRequest.of(Request.from_fields(given)[0], steps=20, guidance_scale=7.5)
    facts = ImageFacts(
        id=request.id, index=index, count=request.count, type=request.type, prompt=request.prompt,
        negative_prompt=request.negative_prompt, seed=request.image_seed(index), width=request.width or 128,
        height=request.height or 64, steps=request.steps, guidance_scale=request.guidance_scale,
        sampler=str(request.chosen_sampler() or own_sampler), strength=request.strength if request.type != "txt2img" else None,
        eta=request.eta, subseed=request.image_subseed(index) if request.subseed_strength else None,
        subseed_strength=request.subseed_strength or None, model=model or "doodle",
    )  # fmt: skip
    return request, facts
