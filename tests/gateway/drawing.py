"""The request daemon without a model, at a hundred steps a second: ``python -m tests.gateway.drawing``."""

import sys
from unittest.mock import patch

from stablediffusiond import samplers
from stablediffusiond.messages.status import LoraFacts, Offer
from stablediffusiond.requestd import daemon
from tests.faults.fake_denoiser import FakeDenoiser


class Drawing(FakeDenoiser):
    def offer(self) -> Offer:
        return Offer(
            tasks=["txt2img", "img2img"], width=64, height=64, steps=20, guidance_scale=7.5, sampler="Euler",
            samplers=list(samplers.NAMES), loras=[LoraFacts(name="ink", family="x", triggers=["y", "z"])],
            embeddings=["easy"], vaes=["soft"], upscalers=["twice"],
        )  # fmt: skip


if __name__ == "__main__":
    patch.object(daemon, "_import_and_load", lambda *_: Drawing()).start()
    sys.exit(daemon.main([]))
