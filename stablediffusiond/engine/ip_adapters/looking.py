"""What a picture's IP-Adapters see of their pictures, by diffusers' own ``encode_image``; before its first step."""

import copy
from collections.abc import Sequence

import torch
from diffusers.models.embeddings import ImageProjection
from PIL.Image import Image
from torch import Tensor

from stablediffusiond.engine.ip_adapters.library import ReadIpAdapter
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.networks import Pipeline, denoiser_of

#: The argument of pipelines that takes it.
ARGUMENT = "ip_adapter_image_embeds"


def seen(
    pipeline: Pipeline, applied: Sequence[ReadIpAdapter], images: Sequence[Image], *, guided: bool
) -> list[Tensor]:
    """For each of ``applied`` what it makes of its image: (rows, 1, tokens, width).

    Under guidance the first row has seen no picture. Made to the end here, and not again in each step.
    """
    twice = guided and denoiser_of(pipeline).config.get("time_cond_proj_dim") is None
    return [_tokens(pipeline, each, image, twice=twice) for each, image in zip(applied, images, strict=True)]


def _tokens(pipeline: Pipeline, applied: ReadIpAdapter, image: Image, *, twice: bool) -> Tensor:
    projection = applied.adapter.projection
    looking = copy.copy(pipeline)
    looking.__dict__ |= {"image_encoder": applied.encoder.network, "feature_extractor": applied.encoder.processor}
    in_parts = not isinstance(projection, ImageProjection)
    shown, nothing = looking.encode_image(image, device_of(pipeline), 1, in_parts)
    given = torch.cat([nothing, shown] if twice else [shown])
    tokens: Tensor = projection(given.to(next(projection.parameters()).dtype))
    return tokens.float().unsqueeze(1)
