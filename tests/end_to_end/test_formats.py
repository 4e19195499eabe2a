"""Formats through both daemons: what is drawn like a picture's file has the bytes of that file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from sd_parsers import ParserManager

from stablediffusiond.client import Client
from stablediffusiond.client import Image as Drawn
from stablediffusiond.pictures.metadata import read
from tests.end_to_end.conftest import Service

DRAW = 'stablediffusion_client "a red cat" --negative-prompt dog --seed 7 --steps 5 --sampler "DPM++ 2M Karras"'


@pytest.mark.parametrize(
    ("options", "name", "pillow"),
    [
        ("", "cat.jpg", "JPEG"),
        ("", "cat.webp", "WEBP"),
        ("--format webp --quality 100", "cat", "WEBP"),
        ("", "cat.png", "PNG"),
    ],
)
def test_a_picture_is_drawn_again_from_its_file_alone(
    service: Service, tmp_path: Path, options: str, name: str, pillow: str
) -> None:
    service.shell(f"{DRAW} {options} -o {name} && stablediffusion_client --like {name} -o again", tmp_path)
    with Image.open(tmp_path / name) as picture:
        assert (picture.format, picture.size) == (pillow, (128, 128))
    assert (tmp_path / name).read_bytes() == (tmp_path / "again").read_bytes()
    parsed = ParserManager().parse(tmp_path / name)
    assert parsed is not None
    [sampler] = parsed.samplers
    assert sampler.parameters == {"scheduler": "Karras", "steps": "5", "cfg_scale": "7.5", "seed": "7"}


def test_each_picture_of_a_job_is_drawn_again_alone(service: Service, tmp_path: Path) -> None:
    service.shell(f"{DRAW} --count 2 -o cat.png && stablediffusion_client --like cat-1.png -o again.png", tmp_path)
    before, again = tmp_path / "cat-1.png", tmp_path / "again.png"
    assert read(again.read_bytes()) == read(before.read_bytes())
    assert "Seed: 8" in read(again.read_bytes()).parameters
    pixels = [np.asarray(Image.open(file), np.int16) for file in (before, again)]
    assert np.abs(pixels[0] - pixels[1]).max() <= 1  # two that step together, and one alone


def test_the_library_draws_after_the_same_image(service: Service) -> None:
    with Client(service.settings) as client:
        [first] = client.draw(prompt="a red cat", steps=5, seed=1)
        job = client.submit(prompt="a blue cat", image=first, strength=0.5, steps=10, format="jpeg")
        [drawn] = [event for event in job.events(timeout_seconds=60) if isinstance(event, Drawn)]
        assert (drawn.content_type, drawn.picture().format) == ("image/jpeg", "JPEG")
        job = client.submit(like=drawn.data, image=first)
        [again] = [event for event in job.events(timeout_seconds=60) if isinstance(event, Drawn)]
    assert job.warnings == []
    assert again.data == drawn.data


def test_an_inpainted_variation_is_drawn_again_with_its_image_and_mask(service: Service) -> None:
    mask = Image.new("L", (96, 64))
    mask.paste(255, (10, 10, 40, 50))
    image = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    with Client(service.settings) as client:
        fields: dict[str, object] = {"prompt": "a (red:1.3) cat", "steps": 10, "subseed": 5, "subseed_strength": 0.3, "tiling": True}
        of_mask: dict[str, object] = {"mask_padding": 8, "mask_blur": 2, "mask_fill": "noise", "format": "webp-lossless"}
        job = client.submit(image=image, mask=mask, **{**fields, **of_mask}, timeout_seconds=None)
        [drawn] = [event for event in job.events(timeout_seconds=60) if isinstance(event, Drawn)]
        job = client.submit(like=drawn.data, image=image, mask=mask)
        [again] = [event for event in job.events(timeout_seconds=60) if isinstance(event, Drawn)]
    assert (job.warnings, drawn.picture().size) == ([], (96, 64))
    assert again.data == drawn.data


def test_the_socket_says_which_format_it_is_and_a_clean_file_says_nothing(service: Service, tmp_path: Path) -> None:
    service.shell(
        """
        amqp-publish --url "$URL" -r "$REQUESTS" -b '{"prompt": "SECRET", "steps": 5, "output_format": "jpg", "metadata": false}'
        timeout 30 nc localhost "$PORT" | head -1 > line.json
        test "$(jq -r .content_type line.json)" = image/jpeg
        jq -r .data line.json | base64 -d > cat.jpg
        """,
        tmp_path,
    )
    data = (tmp_path / "cat.jpg").read_bytes()
    assert data.startswith(b"\xff\xd8\xff")
    assert b"Exif" not in data
    assert b"SECRET" not in data


def test_a_second_pass_is_drawn_again_from_its_file_and_from_a1111s_text(service: Service, tmp_path: Path) -> None:
    service.shell(f"{DRAW} --hires 1.5 --hires-strength 0.5 --hires-steps 6 -o cat.png", tmp_path)
    with Image.open(tmp_path / "cat.png") as picture:
        assert picture.size == (192, 192)
    service.shell("stablediffusion_client --like cat.png -o again.png", tmp_path)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "cat.png").read_bytes()
    of_a1111 = Image.open(tmp_path / "cat.png")
    says = PngImagePlugin.PngInfo()
    says.add_text("parameters", of_a1111.info["parameters"])
    of_a1111.save(tmp_path / "a1111.png", pnginfo=says)
    service.shell("stablediffusion_client --like a1111.png -o from-a1111.png", tmp_path)
    assert (tmp_path / "from-a1111.png").read_bytes() == (tmp_path / "cat.png").read_bytes()


def test_a_picture_is_enlarged_and_says_what_it_was(service: Service, tmp_path: Path) -> None:
    service.shell(f"{DRAW} -o cat.png && stablediffusion_client --image cat.png --upscale 3 -o large.webp", tmp_path)
    with Image.open(tmp_path / "cat.png") as small, Image.open(tmp_path / "large.webp") as large:
        assert large.size == (384, 384)
        expected = small.convert("RGB").resize(large.size, Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(large.convert("RGB"), int) - np.asarray(expected)).mean() < 3
    assert "Postprocess upscale by: 3" in read((tmp_path / "large.webp").read_bytes()).parameters
    service.shell("stablediffusion_client --like large.webp --image cat.png -o again.webp", tmp_path)
    assert (tmp_path / "again.webp").read_bytes() == (tmp_path / "large.webp").read_bytes()
    said = service.shell("! stablediffusion_client --image cat.png --upscale 2 --upscaler Lancsoz 2>&1", tmp_path)
    assert "did you mean 'Lanczos'?" in said
