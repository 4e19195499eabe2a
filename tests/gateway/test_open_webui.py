"""What Open WebUI has sent, recorded by ``benchmarks/open_webui.py``, which names its version."""

import base64
import http.client
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.gateway.conftest import Running

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("open_webui.json").read_text())


@pytest.mark.parametrize("request_of", RECORDED["requests"], ids=lambda each: f"{each['method']} {each['path']}")
def test_what_open_webui_has_sent_is_answered(served: Running, request_of: dict[str, Any]) -> None:
    sent = request_of.get("json")
    body = json.dumps(sent).encode() if sent is not None else base64.b64decode(request_of.get("base64", ""))
    # Not httpx, which refuses the empty password that Open WebUI sends.
    connection = http.client.HTTPConnection("127.0.0.1", served.daemon.port(), timeout=60)
    connection.request(request_of["method"], request_of["path"], body, request_of["headers"])
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, found
    match request_of["path"]:
        case "/sdapi/v1/options":
            assert found["sd_model_checkpoint"] == "doodle"
        case "/sdapi/v1/sd-models":
            assert [(each["title"], each["model_name"]) for each in found] == [("doodle", "doodle")]
        case "/sdapi/v1/txt2img":
            assert json.loads(found["info"])["all_prompts"] == ["a red cat"]
            assert [picture(each).size for each in found["images"]] == [(128, 128)]
        case "/v1/images/generations" | "/v1/images/edits":
            assert [picture(each["b64_json"]).size for each in found["data"]] == [(128, 128)]
        case other:
            pytest.fail(f"nothing is known of {other}")


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))
