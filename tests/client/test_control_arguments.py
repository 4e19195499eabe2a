from pathlib import Path

import click
import pytest
from PIL import Image

from stablediffusiond.cli.control_arguments import controls, ip_adapters
from tests.pictures.files import encoded


def test_controls_as_they_are_written(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(encoded(Image.new("L", (8, 8)), "PNG"))
    odd = tmp_path / "odd:0.5"
    odd.write_bytes(picture.read_bytes())
    read = controls((f"edges={picture}", f"depth={picture}:0.8", f"pose={odd}"))
    assert read is not None
    assert [{name: each for name, each in use.items() if name != "image"} for use in read] == [
        {"model": "edges"}, {"model": "depth", "scale": "0.8"}, {"model": "pose"},
    ]  # fmt: skip
    assert all(use["image"] == picture.read_bytes() for use in read)
    assert controls(()) is None


@pytest.mark.parametrize("text", ["edges", "=cat.png", "edges=", "edges=/nowhere/cat.png"])
def test_controls_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="--control"):
        controls((text,))


def preprocessed(tmp_path: Path, *texts: str) -> list[dict[str, object]]:
    """Of the ControlNets ``edges`` and ``tiles``, all but the model and the picture."""
    picture = tmp_path / "cat.png"
    picture.write_bytes(encoded(Image.new("L", (8, 8)), "PNG"))
    read = controls((f"edges={picture}", f"tiles={picture}"), texts) or []
    return [{name: each for name, each in use.items() if name not in {"model", "image"}} for use in read]


def test_preprocessors_of_all_and_of_one(tmp_path: Path) -> None:
    assert preprocessed(tmp_path, "canny:50") == [{"preprocessor": "canny", "low": "50"}] * 2
    assert preprocessed(tmp_path, "edges=canny:50:150", "tiles=tile") == [
        {"preprocessor": "canny", "low": "50", "high": "150"}, {"preprocessor": "tile"},
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "edges=", "canny:much", "canny:1:2:3", "pose=canny"])
def test_preprocessors_that_are_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(click.UsageError, match="--preprocess"):
        preprocessed(tmp_path, text)


def test_a_preprocessor_without_a_control() -> None:
    with pytest.raises(click.UsageError, match="there is no --control"):
        controls((), ("canny",))


def test_ip_adapters_as_they_are_written(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(encoded(Image.new("L", (8, 8)), "PNG"))
    assert ip_adapters((f"plus={picture}:0.6", f"plain={picture}")) == [
        {"name": "plus", "image": picture.read_bytes(), "scale": "0.6"},
        {"name": "plain", "image": picture.read_bytes()},
    ]
    assert ip_adapters(()) is None
    with pytest.raises(click.UsageError, match="--ip-adapter"):
        ip_adapters(("plus=/nowhere/cat.png",))
