"""GGUF files: opened as models with the rest from elsewhere, drawn with while quantised, or refused by what they are."""

from importlib import metadata
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from stablediffusiond.engine import quantization
from stablediffusiond.engine.checkpoints import components, gguf_file
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine import original_layout
from tests.engine.families import drawn_together
from tests.engine.families.parts import t5_tokenizer
from tests.engine.gguf_writing import save_gguf, usual
from tests.engine.original_layout import State
from tests.engine.tiny_files import network_state, same_weights, save
from tests.engine.tiny_models_in_files import OLD_ONES, VAE, complaint, family, opened, parts_of, state_of, tiny_configs

pytestmark = OLD_ONES
__all__ = ["tiny_configs"]

REQUESTS: Final = [
    CompleteRequest(prompt=prompt, steps=2, seed=seed, width=64, height=64)
    for seed, prompt in enumerate(("a cat", "a blue dog"))
]


class Flux:
    """The parts of a model of FLUX.1 dev, as people have them: a file of each."""

    def __init__(self, folder: Path) -> None:
        of = family("FLUX.1 dev")
        self.parts = parts_of(of)
        self.network = network_state(self.parts["transformer"], "")
        t5_tokenizer().save_pretrained(folder / "text/tokenizer")
        for each in of.text_encoders:
            state = original_layout.transformers_layout(self.parts[each.component], "")
            save(state, folder / f"text/{each.kind}.safetensors", torch.float32)
        vae = save(original_layout.vae(self.parts["vae"], ""), folder / "ae.safetensors", torch.float32)
        self.rest = {"vae": str(vae), "text_encoders": folder / "text"}
        self.file = save_gguf(self.network, folder / "flux1-dev-Q8_0.gguf", usual)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory, tiny_configs: None) -> Flux:
    return Flux(tmp_path_factory.mktemp("flux"))


def kinds(network: torch.nn.Module) -> set[str]:
    return {type(parameter).__name__ for parameter in network.parameters()}


def drawn(pipeline: Any) -> list[Any]:
    denoiser = PipelineDenoiser(pipeline, "tiny")
    together = drawn_together(denoiser, REQUESTS)
    for request, got in zip(REQUESTS, together, strict=True):
        [alone] = drawn_together(denoiser, [request])
        assert np.abs(alone.astype(int) - got).max() <= 1
    return [each.astype(int) for each in together]


def test_a_network_is_opened_with_the_rest_from_elsewhere(flux: Flux, tmp_path: Path) -> None:
    pipeline = opened(flux.file, **flux.rest)
    assert type(pipeline).__name__ == "FluxPipeline"
    assert kinds(pipeline.transformer) == {"Parameter", "GGUFParameter"}
    assert pipeline.transformer.dtype == torch.float32
    for name in ("vae", "text_encoder", "text_encoder_2"):
        assert same_weights(getattr(pipeline, name), flux.parts[name])
    whole = opened(save(flux.network, tmp_path / "flux1-dev.safetensors", torch.float32), **flux.rest)
    small, large = (
        sum(each.nbytes for each in one.transformer.parameters() if each.ndim > 1) for one in (pipeline, whole)
    )
    assert small < 0.3 * large  # 8.5 bits in place of 32
    got, expected = drawn(pipeline), drawn(whole)
    for one, other in zip(got, expected, strict=True):
        assert np.abs(one - other).mean() < 1
    assert np.abs(got[0] - expected[1]).mean() > 5  # rows of a neighbour would be seen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_it_computes_in_the_precision_that_is_asked_for(flux: Flux, dtype: str) -> None:
    pipeline = opened(flux.file, dtype=dtype, **flux.rest)
    assert pipeline.transformer.dtype == getattr(torch, dtype)
    expected = drawn(opened(flux.file, **flux.rest))
    denoiser = PipelineDenoiser(pipeline, "tiny")
    for one, other in zip(drawn_together(denoiser, REQUESTS), expected, strict=True):
        assert np.abs(one - other).mean() < 5


def test_weights_come_onto_the_device_layer_by_layer(flux: Flux) -> None:
    expected = drawn(opened(flux.file, **flux.rest))
    for one, other in zip(drawn(opened(flux.file, offload="group", **flux.rest)), expected, strict=True):
        assert np.abs(one - other).max() <= 1


def test_large_text_encoders_are_quantised_beside_it(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "_is_large", lambda network: type(network).__name__ == "T5EncoderModel")
    pipeline = opened(flux.file, quantize="int8", **flux.rest)
    assert kinds(pipeline.transformer) == {"Parameter", "GGUFParameter"}
    assert "Int8Tensor" in kinds(pipeline.text_encoder_2)


def test_a_whole_model_with_a_unet_is_opened(tmp_path: Path) -> None:
    of = family("Stable Diffusion 1.x")
    parts = parts_of(of)
    state = state_of(of, parts)

    def kind_of(name: str, tensor: torch.Tensor) -> GGMLQuantizationType:
        if name.startswith(VAE) and tensor.ndim > 1:
            return GGMLQuantizationType.F16
        return usual(name, tensor)

    file = save_gguf(state, tmp_path / "sd1.gguf", kind_of, "sd1")
    reader = gguf.GGUFReader(file)
    convolution = next(each for each in reader.tensors if each.name.endswith("input_blocks.1.0.in_layers.2.weight"))
    assert convolution.tensor_type == GGMLQuantizationType.Q8_0
    pipeline = opened(file)
    assert "GGUFParameter" in kinds(pipeline.unet)
    assert kinds(pipeline.vae) == kinds(pipeline.text_encoder) == {"Parameter"}
    expected = drawn(opened(save(state, tmp_path / "sd1.safetensors", torch.float32)))
    for one, other in zip(drawn(pipeline), expected, strict=True):
        assert np.abs(one - other).mean() < 2


# What is refused


def written(state: State, folder: Path, **more: Any) -> Path:
    return save_gguf(state, folder / "model.gguf", usual, **more)


def test_files_that_are_broken_are_named(flux: Flux, tmp_path: Path) -> None:
    whole = flux.file.read_bytes()
    for end in (5, 30, 2000, len(whole) // 2, len(whole) - 100):
        (tmp_path / "cut.gguf").write_bytes(whole[:end])
        assert "cut.gguf is cut off, or no GGUF file that can be read here; fetch it again" in complaint(
            tmp_path / "cut.gguf"
        )
    (tmp_path / "page.gguf").write_bytes(b"<!DOCTYPE html><html>")
    assert "page.gguf is no GGUF file, but a web page" in complaint(tmp_path / "page.gguf")
    (tmp_path / "empty.gguf").write_bytes(b"")
    assert "empty.gguf is no GGUF file, it is empty" in complaint(tmp_path / "empty.gguf")
    assert "no such file" in complaint(tmp_path / "none.gguf")


def test_files_of_other_kinds_are_named(flux: Flux, tmp_path: Path) -> None:
    words = {"token_embd.weight": torch.ones(32, 32), "enc.blk.0.attn_q.weight": torch.ones(32, 32)}
    assert "is a language model in the layout of llama.cpp; take it as safetensors" in complaint(
        written(words, tmp_path, architecture="t5encoder")
    )
    video = {"blocks.0.cross_attn.k.weight": torch.ones(32, 32), "head.modulation": torch.ones(1, 32)}
    assert "is a model of videos" in complaint(written(video, tmp_path, architecture="wan"))
    other = {"transformer_blocks.0.img_mod.1.weight": torch.ones(32, 32)}
    said = complaint(written(other, tmp_path, architecture="qwen_image"))
    assert "is a model of a kind that does not open from a single file; name its folder" in said
    assert "[model] transformer" in said
    assert "lacks weights" in complaint(
        written({name: each for name, each in flux.network.items() if name != "txt_in.weight"}, tmp_path), **flux.rest
    )


def test_types_that_diffusers_does_not_read_are_named(flux: Flux, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(None, "flux")
    data: Any = np.zeros((32, 66), np.uint8)  # of 256 weights each row
    writer.add_tensor("img_in.weight", data, raw_dtype=GGMLQuantizationType.IQ2_XXS)
    writer.write_header_to_file(tmp_path / "a.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "a.gguf is quantised as IQ2_XXS, which diffusers does not read; take" in complaint(tmp_path / "a.gguf")


def test_the_package_is_asked_for(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    said = complaint(flux.file, **flux.rest)
    assert "a GGUF file needs gguf, which is not installed: " in said
    assert '-m pip install "gguf>=' in said


def test_no_weights_are_read_before_the_file_is_recognised(flux: Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file.GgufWeights, "_reader", lambda _: pytest.fail("weights were read"))
    monkeypatch.setattr(components, "converted", lambda *_: pytest.fail("weights were read"))
    assert "needs text_encoder" in complaint(flux.file)
