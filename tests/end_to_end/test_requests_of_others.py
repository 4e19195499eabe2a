"""What other programs' requests become, on the whole way: A1111's bodies, photographs, seeds of 64 bits."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from stablediffusiond.client import Client, Done, Failed
from stablediffusiond.client import Image as Drawn
from stablediffusiond.messages.body import parse
from tests.end_to_end.conftest import Service
from tests.pictures.files import encoded

BODIES = Path(__file__).parents[1] / "messages/a1111"
LARGEST = 2**64 - 1


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.settings) as made:
        yield made


def published(service: Service, body: dict[str, object], folder: Path, replies: int) -> list[bytes]:
    """The bodies of the replies to ``body``, which is put into the queue as it is."""
    (folder / "body.json").write_text(json.dumps(body))
    service.shell('amqp-publish --url "$URL" -r "$REQUESTS" < body.json', folder)
    for number in range(replies):
        service.shell(f'amqp-consume --url "$URL" -q "$RESULTS" -c 1 cat > reply{number}', folder)
    return [(folder / f"reply{number}").read_bytes() for number in range(replies)]


@pytest.mark.parametrize(
    "name", ["webuiapi_txt2img", "webuiapi_img2img", "its_own_defaults_txt2img", "sillytavern", "koboldai_lite_txt2img"]
)
def test_a_body_of_a1111s_is_drawn(service: Service, tmp_path: Path, name: str) -> None:
    body = parse((BODIES / f"{name}.json").read_bytes()) | {"width": 64, "height": 96, "steps": 3}
    picture, done = published(service, body, tmp_path, 2)
    assert Image.open(io.BytesIO(picture)).size == (64, 96)
    assert len([each for each in json.loads(done)["warnings"] if "ask for nothing that is done here" in each]) == 1


def test_what_a_body_of_a1111s_asks_in_vain_is_refused_by_its_name(service: Service, tmp_path: Path) -> None:
    for body, field in (
        ({"enable_hr": 7}, "enable_hr"),
        ({"override_settings": {"sd_model_checkpoint": "v1-5-pruned-emaonly.safetensors [6ce0161689]"}}, "model"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "alwayson_scripts.ADetailer"),
    ):
        [failed] = published(service, {"prompt": "cat", **body}, tmp_path, 1)
        error = json.loads(failed)["error"]
        assert (error["code"], error["field"]) == ("invalid_request", field)


def test_a_photograph_keeps_its_proportions(client: Client) -> None:
    photograph = Image.new("RGB", (1600, 1200), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, size in ((photograph, (144, 112)), (encoded(photograph, "JPEG", exif=exif), (112, 144))):
        [drawn] = client.draw(prompt="a cat", image=image, steps=4, strength=0.5)
        assert drawn.size == size
        [again] = client.draw(prompt="a cat", image=drawn, steps=4, strength=0.5, width=64)
        assert again.width == 64


def test_a_seed_of_64_bits_comes_back_as_it_was(client: Client) -> None:
    events = list(client.submit(prompt="a cat", seed=LARGEST, count=2, steps=2).events())
    assert [event.facts.seed for event in events if isinstance(event, Drawn)] == [LARGEST, 0]
    assert isinstance(events[-1], Done)


def test_on_the_socket_such_a_seed_is_text(service: Service, tmp_path: Path) -> None:
    line = service.shell(
        f"""
        amqp-publish --url "$URL" -r "$REQUESTS" -b '{{"prompt": "cat", "steps": 2, "seed": {LARGEST}}}'
        timeout 30 nc localhost "$PORT" | head -1
        """,
        tmp_path,
    )
    assert json.loads(line)["seed"] == str(LARGEST)


def test_a_picture_that_cannot_be_opened_is_refused(client: Client) -> None:
    for data, expected in (
        (b"\0\0\0\x18ftypheic" + bytes(50), "HEIC"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 900_000, "more than 20000"),
    ):
        events = list(client.submit(prompt="a cat", image=base64.b64encode(data).decode()).events())
        assert isinstance(events[-1], Failed)
        assert expected in events[-1].error.message
        assert events[-1].error.field == "image"
