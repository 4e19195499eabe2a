"""What a file is, by its header: of real sizes, without a byte of weights."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from stablediffusiond.engine.checkpoints import header
from stablediffusiond.engine.checkpoints.recognition import recognise
from stablediffusiond.errors import ModelUnavailable
from tests.engine.hollow_files import written

_UNET = "model.diffusion_model."
_IN = f"{_UNET}input_blocks.0.0.weight"
_TEXT = f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_TEXT_XL = f"{_UNET}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
_FLUX = "double_blocks.0.img_attn.norm.key_norm.scale"


def complaint(file: Path) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        recognise(header.read(file))
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "name"),
    [
        ({_IN: (320, 4, 3, 3), _TEXT: (320, 768)}, "Stable Diffusion 1.x"),
        ({_IN: (320, 9, 3, 3), _TEXT: (320, 768)}, "Stable Diffusion 1.x for inpainting"),
        ({_IN: (320, 8, 3, 3), _TEXT: (320, 768)}, "InstructPix2Pix"),
        ({_IN: (320, 4, 3, 3), _TEXT: (320, 1024)}, "Stable Diffusion 2.x"),
        ({_IN: (320, 9, 3, 3), _TEXT: (320, 1024)}, "Stable Diffusion 2.x for inpainting"),
        ({_IN: (320, 4, 3, 3), _TEXT_XL: (640, 2048)}, "Stable Diffusion XL"),
        ({_IN: (320, 9, 3, 3), _TEXT_XL: (640, 2048)}, "Stable Diffusion XL for inpainting"),
        ({_IN: (384, 4, 3, 3), _TEXT_XL: (768, 1280)}, "the refiner of Stable Diffusion XL"),
        ({f"{_UNET}joint_blocks.23.x_block.mlp.fc1.weight": (6144, 1536)}, "Stable Diffusion 3 medium"),
        (
            {
                f"{_UNET}joint_blocks.23.x_block.mlp.fc1.weight": (6144, 1536),
                f"{_UNET}joint_blocks.0.x_block.attn2.qkv.weight": (4608, 1536),
            },
            "Stable Diffusion 3.5 medium",
        ),
        ({"joint_blocks.37.x_block.mlp.fc1.weight": (9728, 2432)}, "Stable Diffusion 3.5 large"),
        ({_FLUX: (128,), "img_in.weight": (3072, 64), "guidance_in.in_layer.weight": (3072, 256)}, "FLUX.1 dev"),
        ({_FLUX: (128,), "img_in.weight": (3072, 384), "guidance_in.in_layer.weight": (3072, 256)}, "FLUX.1 Fill"),
        ({f"{_UNET}{_FLUX}": (128,), f"{_UNET}img_in.weight": (3072, 64)}, "FLUX.1 schnell"),
    ],
)
def test_a_family_is_known_by_its_header(tensors: Mapping[str, tuple[int, ...]], name: str, tmp_path: Path) -> None:
    assert recognise(header.read(written(tmp_path, tensors))).family.name == name


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "is a LoRA; it is added to a model"),
        ("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight", "is a LoRA"),
        ("lora_unet_mid_block.hada_w1_a", "is a LoRA"),
        ("emb_params", "is an embedding (textual inversion)"),
        ("clip_g", "is an embedding (textual inversion)"),
        ("control_model.input_blocks.0.0.weight", "is a ControlNet"),
        ("controlnet_cond_embedding.conv_in.weight", "is a ControlNet"),
        ("controlnet_blocks.0.weight", "is a ControlNet"),
        ("ip_adapter.1.to_k_ip.weight", "is an IP-Adapter"),
        ("decoder.conv_in.weight", "is a VAE alone; write [model] vae ="),
        ("first_stage_model.decoder.conv_in.weight", "is a VAE alone"),
        (
            "text_model.encoder.layers.0.mlp.fc1.weight",
            "is a text encoder alone; it belongs into the folder that [model] text_e",
        ),
        ("encoder.block.0.layer.0.SelfAttention.q.weight", "is a text encoder alone"),
        ("model.layers.0.self_attn.q_proj.weight", "is a language model"),
        ("model.diffusion_model.head.modulation", "is a model of videos; text-to-image models can be served"),
        ("model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight", "is a model of videos"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "is a motion module"),
        ("conditioner.conditioners.seconds_total.embedder.weight", "is a model of sounds"),
        ("single_stream_modulation.lin.weight", "is a model of FLUX's kind"),
        ("cap_embedder.0.weight", "is a model of a kind that does not open from a single file; name"),
        ("down_blocks.0.resnets.0.conv1.weight", "is a part of a model in the layout of diffusers"),
        ("model.1.sub.0.RDB1.conv1.0.weight", "is an upscaler of pictures"),
        ("weight", "is of a kind that is not known here (its tensors: weight, …)"),
    ],
)
def test_what_is_no_model_is_refused_by_what_it_is(tensor: str, said: str, tmp_path: Path) -> None:
    assert f"model.safetensors {said}" in complaint(written(tmp_path, {tensor: (4, 4)}))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({_IN: (320, 7, 3, 3), _TEXT: (320, 1024)}, "a UNet, but of an upscaler"),
        ({_IN: (320, 4, 3, 3), _TEXT_XL: (640, 2048), "edm_mean": (4,)}, "scaled as EDM does it"),
        ({_IN: (320, 4, 3, 3), _TEXT_XL: (640, 2048), "edm_vpred.sigma_max": (1,)}, "scaled as EDM does it"),
        ({_IN: (320, 5, 3, 3), _TEXT: (320, 1024)}, "asks for more than a prompt (depth"),
        ({_IN: (320, 4, 3, 3), _TEXT: (320, 1024), f"{_UNET}label_emb.0.0.weight": (1280, 2048)}, "image embeddings"),
        (
            {_FLUX: (128,), "img_in.weight": (3072, 128), "guidance_in.in_layer.weight": (3072, 256)},
            "more than a prompt",
        ),
    ],
)
def test_relatives_that_need_more_than_a_prompt_are_refused(
    tensors: Mapping[str, tuple[int, ...]], said: str, tmp_path: Path
) -> None:
    assert said in complaint(written(tmp_path, tensors))


def test_gigabytes_are_recognised_in_no_time_and_without_memory(tmp_path: Path) -> None:
    """A header is read, and not the 24 GB behind it: the file is a hole, and larger than this machine's memory may be."""
    shapes = {_FLUX: (128,), "img_in.weight": (3072, 64), "rest.weight": (3072, 2_000_000, 2)}
    assert recognise(header.read(written(tmp_path, shapes))).family.name == "FLUX.1 schnell"


def test_a_file_that_is_cut_off_says_how_much_is_missing(tmp_path: Path) -> None:
    file = written(tmp_path, {_IN: (320, 4, 3, 3)})
    with file.open("r+b") as cut:
        cut.truncate(file.stat().st_size - 1000)
    assert "is cut off: 1000 of 23040 bytes are missing; fetch it again" in complaint(file)


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "a web page: a download that was refused"),
        (b'{"error":"Unauthorized"}', "a message of a server"),
        (b"PK\x03\x04" + b"\0" * 100, "a pickle or a zip file"),
        (b"GGUF\x03\0\0\0", "a GGUF file"),
        (b"not safetensors", "is no safetensors file"),
        ((20).to_bytes(8, "little") + b"[1, 2, 3]", "is no safetensors file"),
        ((20).to_bytes(8, "little") + b'{"a": {"dtype": 1}} ', "is no safetensors file"),
    ],
)
def test_a_file_of_another_format_says_which(begin: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(begin)
    assert said in complaint(tmp_path / "model.safetensors")
