"""Single files of whole tiny models, and how tests open them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

from stablediffusiond.engine.checkpoints import components, tokenizers
from stablediffusiond.engine.checkpoints.families import FAMILIES, Family
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.settings import ModelSettings
from tests.engine import original_layout
from tests.engine.original_layout import State
from tests.engine.tiny_files import (
    diffusers_model,
    narrow_converter,
    network_state,
    save,
    text_model,
    write_tiny_configs,
)

VAE: Final = "first_stage_model."
#: Diffusers' own, against a numpy and a torch that are newer than it.
OLD_ONES: Final = [
    pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def tiny_configs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "CONFIGS", write_tiny_configs(tmp_path_factory.mktemp("configs")))
        patch.setattr(tokenizers, "_merges", list)  # every byte is a token, and there are no others
        converters: Any = SINGLE_FILE_LOADABLE_CLASSES
        converter = converters["FluxTransformer2DModel"]
        patch.setitem(converter, "checkpoint_mapping_fn", narrow_converter(converter["checkpoint_mapping_fn"]))
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A file of Stable Diffusion 1.x, and its parts."""
    of = family("Stable Diffusion 1.x")
    parts = parts_of(of)
    return save(state_of(of, parts), tmp_path_factory.mktemp("files") / "model.safetensors"), parts


def family(name: str) -> Family:
    return next(each for each in FAMILIES if each.name == name)


def parts_of(of: Family) -> dict[str, Any]:
    """The parts of a model of that family, by the names of their components."""
    name, architecture, folder = of.network
    parts = {
        name: diffusers_model(architecture, folder, **of.network_options), "vae": diffusers_model("AutoencoderKL", of.vae)
    }  # fmt: skip
    return parts | {each.component: text_model(each.architecture, each.kind) for each in of.text_encoders}


def state_of(of: Family, parts: dict[str, Any], *, prefix: str = "model.diffusion_model.") -> State:
    """Its file, with all text encoders in it."""
    state = network_state(parts[of.network[0]], prefix) | original_layout.vae(parts["vae"], VAE)
    for each in of.text_encoders:
        write = original_layout.open_clip if each.prefix.endswith("model.") else original_layout.transformers_layout
        state |= write(parts[each.component], each.prefix)
    return state


def opened(file: Path, **settings: Any) -> Any:
    return load_pipeline(ModelSettings.model_validate({"name": str(file), "device": "cpu", **settings}))


def complaint(file: Path, **settings: Any) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        opened(file, **settings)
    assert caught.value.exit_code == 78
    return str(caught.value)
