"""Previews go to who asked for them, on every way there is to ask."""

import io
import json
from pathlib import Path

from PIL import Image as Pillow

from stablediffusiond.client import Client, Done, Preview
from tests.end_to_end.conftest import Service

REQUEST = {"prompt": "a red cat", "steps": 60, "seed": 1}


def test_a_listener_who_asks_sees_the_picture_come(service: Service) -> None:
    with Client(service.settings, previews=True) as client:
        events = list(client.submit(REQUEST).events(timeout_seconds=60))
    assert isinstance(events[-1], Done)
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews
    with Pillow.open(io.BytesIO(previews[-1].jpeg)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (32, 32))


def test_one_who_does_not_gets_none(service: Service) -> None:
    with Client(service.settings, progress=True) as client:
        events = list(client.submit(REQUEST).events(timeout_seconds=60))
    assert {type(event).__name__ for event in events} == {"Progress", "Image", "Done"}


def test_a_request_may_ask(service: Service, tmp_path: Path) -> None:
    request = json.dumps({**REQUEST, "preview_every": 20})
    printed = service.shell(f"stablediffusion_client --json --wait -o preview.png '{request}'", tmp_path)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [(line["index"], line["step"]) for line in lines if line["type"] == "preview"] == [(0, 20), (0, 40)]
