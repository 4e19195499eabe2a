"""A file of the transformer in place of that of a folder: ``[model] transformer``."""

from pathlib import Path
from typing import Any, Final

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch

from stablediffusiond.engine.checkpoints import weights
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine import families
from tests.engine.families import drawn_together
from tests.engine.gguf_writing import save_gguf, usual
from tests.engine.tiny_files import network_state, save
from tests.engine.tiny_models_in_files import OLD_ONES, complaint, opened, tiny_configs

pytestmark = OLD_ONES
__all__ = ["tiny_configs"]

REQUESTS: Final = [CompleteRequest(prompt=prompt, steps=2, seed=seed) for seed, prompt in enumerate(("a cat", "a dog"))]


def other_weights(folder: Path) -> Any:
    """A network like the one in ``folder``, which from now on has none."""
    part = folder / "transformer"
    architecture: Any = getattr(diffusers, diffusers.AutoModel.load_config(part)["_class_name"])
    torch.manual_seed(7)
    network = architecture.from_config(architecture.load_config(part))
    for parameter in network.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    for file in part.glob("*.safetensors"):
        file.unlink()
    return network


def drawn(folder: Path, file: Path | None = None) -> list[Any]:
    denoiser = families.opened(folder, **({"transformer": str(file)} if file else {}))
    together = drawn_together(denoiser, REQUESTS)
    for request, got in zip(REQUESTS, together, strict=True):
        [alone] = drawn_together(denoiser, [request])
        assert np.abs(alone.astype(int) - got).max() <= 1
    return [each.astype(int) for each in together]


@pytest.mark.parametrize(
    ("family", "prefix"), [("FLUX.1 dev", ""), ("FLUX.1 dev", "model.diffusion_model."), ("Z-Image", None)]
)
def test_the_pictures_are_those_of_the_file(family: str, prefix: str | None, tmp_path: Path) -> None:
    folder = families.save(family, tmp_path)
    before = drawn(folder)
    network = other_weights(folder)
    state = dict(network.state_dict()) if prefix is None else network_state(network, prefix)
    plain = save(state, tmp_path / "network.safetensors", torch.float32)
    small = save_gguf(state, tmp_path / "network.gguf", usual)
    got = drawn(folder, plain), drawn(folder, small)
    network.save_pretrained(folder / "transformer")
    for expected, one, other, different in zip(drawn(folder), *got, before, strict=True):
        assert np.abs(expected - one).max() <= 1
        assert np.abs(expected - other).mean() < 2
        assert np.abs(expected - different).mean() > 5


def test_weights_in_scaled_fp8_are_multiplied(tmp_path: Path) -> None:
    folder = families.save("FLUX.1 dev", tmp_path)
    state = {name: each.half() for name, each in network_state(other_weights(folder), "").items()}
    name = "double_blocks.0.img_mlp.0."
    state[f"{name}weight"] = (state[f"{name}weight"].float() / 0.5).to(torch.float8_e4m3fn)
    small = state[f"{name}weight"].float()
    state |= {f"{name}scale_weight": torch.tensor(0.5), "scaled_fp8": torch.zeros(2)}
    safetensors.torch.save_file({key: each.contiguous() for key, each in state.items()}, tmp_path / "fp8.safetensors")
    read = opened(folder, transformer=tmp_path / "fp8.safetensors").transformer
    assert torch.equal(read.transformer_blocks[0].ff.net[0].proj.weight, small * 0.5)


def test_a_file_for_another_model_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flux = families.save("FLUX.1 dev", tmp_path / "flux")
    state = network_state(other_weights(flux), "")
    file = save_gguf(state, tmp_path / "flux.gguf", usual)
    monkeypatch.setattr(weights.Weights, "_read", lambda *_: pytest.fail("weights were read"))
    other = families.save("Stable Diffusion 3", tmp_path / "other")
    assert "[model] transformer: flux.gguf is not for this model: its SD3Transformer2DModel lacks weights" in complaint(
        other, transformer=file
    )
    wide = save(state | {"txt_in.weight": torch.ones(32, 48)}, tmp_path / "wide.safetensors")
    assert "is of another shape than it should be: context_embedder.weight ((32, 48) and not (32, 32))" in complaint(
        flux, transformer=wide
    )
    pixart = families.save("PixArt", tmp_path / "pixart")
    assert "diffusers opens no PixArtTransformer2DModel from a single file" in complaint(pixart, transformer=file)


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    folder = families.save("FLUX.1 dev", tmp_path)
    assert "no such file" in complaint(folder, transformer=tmp_path / "none.gguf")
    (tmp_path / "a.bin").write_bytes(b"")
    assert "a.bin is neither a .gguf nor a .safetensors file" in complaint(folder, transformer=tmp_path / "a.bin")
    file = save(network_state(other_weights(folder), ""), tmp_path / "flux.safetensors")
    assert "is a single file: [model] transformer goes with a folder" in complaint(file, transformer=file)
    (folder / "transformer/config.json").unlink()
    assert "transformer/config.json is missing" in complaint(folder, transformer=file)
