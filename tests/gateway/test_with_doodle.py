"""With the built-in model, by all three interfaces: what comes out is what the library draws."""

import base64
import io
from pathlib import Path
from typing import Any

import openai
import webuiapi
from PIL import Image, ImageChops

from stablediffusiond.client import Client
from tests.gateway.conftest import running
from tests.preloaded import request_daemon
from tools.private_broker import PrivateBroker

CAT: dict[str, Any] = {"prompt": "a red cat", "seed": 42, "steps": 8, "width": 128, "height": 128}


def test_the_same_picture_by_every_way(broker: PrivateBroker, tmp_path: Path) -> None:
    with running(broker, tmp_path, draws=request_daemon) as served:
        with Client(served.settings) as client:
            [drawn] = client.draw(**CAT)
        ours = served.draw(**CAT)["images"][0]
        api = webuiapi.WebUIApi(baseurl=f"{served.address}/sdapi/v1")
        [a1111] = api.txt2img(**CAT, cfg_scale=7.5, sampler_name="", sampler_index="", scheduler="", eta=0).images
        with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0) as other:
            answer = other.images.generate(
                prompt="a red cat", size="128x128", extra_body={"seed": 42, "steps": 8, "guidance_scale": 7.5}
            )
        assert answer.data is not None
        [encoded] = [each.b64_json for each in answer.data]
        assert encoded is not None
        pictures = [
            Image.open(io.BytesIO(served.client.get(ours["url"]).content)),
            a1111,
            Image.open(io.BytesIO(base64.b64decode(encoded))),
        ]
        for picture in pictures:
            assert ImageChops.difference(picture.convert("RGB"), drawn.convert("RGB")).getbbox() is None
        larger = api.extra_single_image(drawn, upscaling_resize=2, upscaler_1="Lanczos").image
        assert larger.size == (256, 256)
