"""What the command line says of ControlNets and IP-Adapters: pictures, scales, and what is made of pictures first."""

from collections.abc import Sequence
from pathlib import Path

import click

from stablediffusiond.client.image_argument import read_file
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body


def guides(control: tuple[str, ...], preprocess: tuple[str, ...], ip_adapter: tuple[str, ...]) -> Body:
    """The fields of a request that these options are."""
    return {"control": controls(control, preprocess), "ip_adapter": ip_adapters(ip_adapter)}


def controls(texts: Sequence[str], preprocess: Sequence[str] = ()) -> list[Body] | None:
    """``edges=cat.png:0.8`` and the like as the field ``control``; ``preprocess`` are those of ``--preprocess``."""
    made = [{"model": name, **picture} for name, picture in (_named_picture("--control", text) for text in texts)]
    for text in preprocess:
        _preprocess(made, text)
    return made or None


def ip_adapters(texts: Sequence[str]) -> list[Body] | None:
    """``style=cat.png:0.6`` and the like as the field ``ip_adapter``."""
    named = (_named_picture("--ip-adapter", text) for text in texts)
    return [{"name": name, **picture} for name, picture in named] or None


def _named_picture(option: str, text: str) -> tuple[str, Body]:
    """A name, and the picture and the scale that stand behind it, as fields."""
    name, _, file = text.partition("=")
    if not name or not file:
        raise click.UsageError(f"{option} must be like name=cat.png or name=cat.png:0.8, not {text}")
    path, _, scale = file.rpartition(":")
    scaled = path and _is_number(scale) and not Path(file).exists()
    try:
        image = read_file(Path(path if scaled else file), "control")
    except InvalidRequest as error:
        raise click.UsageError(str(error).replace("'control'", option)) from None
    return name, {"image": image, **({"scale": scale} if scaled else {})}


def _preprocess(made: Sequence[Body], text: str) -> None:
    """Have ``text``, ``canny``, ``canny:100:200`` or ``edges=canny``, stand in those of ``made`` that it is for."""
    name, _, rest = text.rpartition("=")
    preprocessor, *numbers = rest.split(":")
    if not preprocessor or len(numbers) > 2 or not all(map(_is_number, numbers)):
        raise click.UsageError(f"--preprocess must be like canny, canny:100:200 or edges=canny, not {text}")
    chosen = [use for use in made if not name or use["model"] == name]
    if not chosen:
        said = f"there is no --control {name}" if name else "there is no --control"
        raise click.UsageError(f"--preprocess {text}: {said}")
    for use in chosen:
        use.update({"preprocessor": preprocessor, **dict(zip(("low", "high"), numbers, strict=False))})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
