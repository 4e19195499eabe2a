"""The models that requests may name, and how other programs name them."""

from pathlib import Path

import pytest

from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.settings import FolderSettings, ModelSettings, Settings


def catalogue(default: str = "doodle", folder: Path | None = None, **models: str) -> Catalogue:
    named = {name: ModelSettings(name=path, device="cuda", steps=7) for name, path in models.items()}
    return Catalogue(
        Settings(model=ModelSettings(name=default, device="cpu"), models=named, folders=FolderSettings(models=folder))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sdxl").mkdir()
    (tmp_path / "sdxl/Juggernaut_XL.safetensors").touch()
    (tmp_path / "flux.gguf").touch()
    (tmp_path / "notes.txt").touch()
    for part in ("unet", "vae"):
        (tmp_path / "dreamshaper" / part).mkdir(parents=True)
        (tmp_path / "dreamshaper" / part / "diffusion_pytorch_model.safetensors").touch()
    (tmp_path / "dreamshaper/model_index.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ("doodle", "doodle"), ("Doodle", "doodle"), ("doodle.safetensors [0123abcdef]", "doodle"), ("sd/doodle.ckpt", "doodle"),
        ("dreamshaper_8", "/srv/models/dreamshaper_8.safetensors"), ("sub\\dreamshaper_8.safetensors", "dreamshaper_8"),
        ("stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"), ("/srv/models/own/", "/srv/models/own"),
        ("Stable-Diffusion-v1-5/stable-diffusion-v1-5", "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    ],
)  # fmt: skip
def test_a_model_may_be_named_as_other_programs_name_it(asked: str, served: str) -> None:
    assert catalogue(served).find(asked) == served


@pytest.mark.parametrize("name", [None, ""])
def test_who_names_none_gets_the_default(name: str | None) -> None:
    assert catalogue("other").find(name) == "other"


@pytest.mark.parametrize("name", ["/", ".safetensors", "[0123]", "v2"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="this service draws with 'doodle'"):
        catalogue().find(name)


def test_models_come_from_their_sections_and_from_the_folder(folder: Path) -> None:
    known = catalogue(folder=folder, anime="/srv/anime.safetensors")
    assert known.names == ["doodle", "dreamshaper", "flux", "Juggernaut_XL", "anime"]
    settings = known.settings
    assert (settings["anime"].name, settings["anime"].device, settings["anime"].steps) == (
        "/srv/anime.safetensors",
        "cpu",
        7,
    )
    assert settings["dreamshaper"].name == str(folder / "dreamshaper")
    assert settings["flux"].device == "cpu"
    assert known.find("juggernaut_xl.safetensors [abcdef01]") == "Juggernaut_XL"


def test_the_nearest_is_named(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'Juggernaut_XL'") as caught:
        catalogue(folder=folder).find("jugernaut-xl")
    assert caught.value.field == "model"
    with pytest.raises(InvalidRequest, match="this service has doodle, dreamshaper"):
        catalogue(folder=folder).find("zzz")


def test_a_file_that_comes_later_may_be_asked_for_at_once(folder: Path) -> None:
    known = catalogue(folder=folder)
    (folder / "new.safetensors").touch()
    assert known.find("new") == "new"
