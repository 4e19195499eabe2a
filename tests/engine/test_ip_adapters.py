"""Pictures that look at others through IP-Adapters, in one batch with plain ones, against diffusers, one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.ip_adapters.by_rows import taken_out
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine import lora_files
from tests.engine.alone import last_step_and_picture
from tests.engine.families import save
from tests.engine.finishing import all_finished

pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]

_SEEN = 48  #: numbers of a tiny image encoder
_PROJECTED = 24


def picture(seed: int) -> Image.Image:
    """Blocks of some colours; not square, so that it is cropped."""
    blocks = np.random.default_rng(seed).integers(0, 2, (4, 6, 3), dtype=np.uint8) * 255
    return Image.fromarray(blocks).resize((96, 64), Image.Resampling.NEAREST)


PLAIN: Fields = {"name": "plain", "image": b"opened already"}
PLUS: Fields = {"name": "plus", "image": b"opened already"}
#: None, one, another, both, the same twice, nothing of it, after a picture, with a ControlNet, without guidance.
JOBS: list[Fields] = [
    {"steps": 5},
    {"steps": 4, "ip_adapter": [PLAIN]},
    {"steps": 6, "ip_adapter": [{**PLUS, "scale": 0.6}]},
    {"steps": 4, "ip_adapter": [{**PLAIN, "scale": 0.5}, PLUS]},
    {"steps": 4, "ip_adapter": [{**PLAIN, "scale": 0.3}, {**PLAIN, "scale": 0.9}]},
    {"steps": 3, "ip_adapter": [{**PLAIN, "scale": 0}]},
    {"steps": 5, "type": "img2img", "strength": 0.7, "ip_adapter": [PLAIN]},
    {"steps": 5, "type": "inpaint", "strength": 0.8, "ip_adapter": [PLUS]},
    {"steps": 4, "control": [{"model": "edges", "image": b"opened already"}], "ip_adapter": [PLAIN]},
    {"steps": 4, "guidance_scale": 1.0, "ip_adapter": [PLAIN]},
    {"steps": 4, "loras": ["ink:0.8"], "ip_adapter": [{**PLAIN, "scale": 0.7}]},
    {"steps": 4, "loras": ["ink:0.8"]},
    {"steps": 4, "width": 96, "height": 64, "ip_adapter": [PLAIN]},
]
MASK = Image.fromarray(np.array([[0, 255]], np.uint8).repeat(64, axis=0).repeat(48, axis=1))


@dataclass(frozen=True)
class Model:
    denoiser: PipelineDenoiser
    folder: Path
    controlnet: Any


def save_ip_adapters(unet: Any, folder: Path) -> None:
    """One that looks at a picture as a whole, one ("plus") at its parts; in the common format, the encoder beside."""
    torch.manual_seed(5)
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=_SEEN, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32,
            patch_size=8, projection_dim=_PROJECTED,
        )
    )  # fmt: skip
    encoder.save_pretrained(folder / "models/image_encoder")
    width = unet.config.cross_attention_dim
    layers = [name for name in unet.attn_processors if not name.endswith("attn1.processor")]
    attention: dict[str, torch.Tensor] = {}
    for place, name in enumerate(layers):
        inner = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for each in ("to_k_ip", "to_v_ip"):
            attention[f"ip_adapter.{2 * place + 1}.{each}.weight"] = torch.randn(inner, width)
    whole = {
        "proj.weight": torch.randn(4 * width, _PROJECTED), "proj.bias": torch.randn(4 * width),
        "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width),
    }  # fmt: skip
    save_file({**attention, **{f"image_proj.{name}": each for name, each in whole.items()}}, folder / "models/plain.safetensors")
    in_parts = {
        "latents": torch.randn(1, 5, 64), "proj_in.weight": torch.randn(64, _SEEN) / 7, "proj_in.bias": torch.zeros(64),
        "proj_out.weight": torch.randn(width, 64) / 8, "proj_out.bias": torch.zeros(width),
        "norm_out.weight": torch.ones(width), "norm_out.bias": torch.zeros(width),
    }  # fmt: skip
    for layer in range(4):
        made = {
            "0.norm1.weight": torch.ones(64), "0.norm1.bias": torch.zeros(64),
            "0.norm2.weight": torch.ones(64), "0.norm2.bias": torch.zeros(64),
            "0.to_q.weight": torch.randn(64, 64) / 8, "0.to_kv.weight": torch.randn(128, 64) / 8,
            "0.to_out.weight": torch.randn(64, 64) / 8, "1.0.weight": torch.ones(64), "1.0.bias": torch.zeros(64),
            "1.1.weight": torch.randn(256, 64) / 8, "1.3.weight": torch.randn(64, 256) / 16,
        }  # fmt: skip
        in_parts |= {f"layers.{layer}.{name}": each for name, each in made.items()}
    others = {name: each.flip(0) for name, each in attention.items()}
    save_file({**others, **{f"image_proj.{name}": each.contiguous() for name, each in in_parts.items()}}, folder / "models/plus.safetensors")


@pytest.fixture(scope="module", params=["Stable Diffusion 1", "Stable Diffusion XL"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    base = DiffusionPipeline.from_pretrained(folder)
    save_ip_adapters(base.unet, folder.parent / "ip-adapters")
    torch.manual_seed(1)
    controlnet = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(16, 32, 96, 256)).eval()
    for parameter in controlnet.parameters():
        if not parameter.abs().sum():  # they are born so that they change nothing
            torch.nn.init.normal_(parameter, std=0.2)
    controlnet.save_pretrained(folder.parent / "controlnets/edges")
    lora_files.kohya(base, folder.parent / "loras/ink.safetensors", 1, text=False)
    return Model(opened(folder), folder, controlnet)


def opened(folder: Path, ip_adapters: Path | None = None) -> PipelineDenoiser:
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        folders = FolderSettings(
            ip_adapters=ip_adapters or folder.parent / "ip-adapters", controlnets=folder.parent / "controlnets",
            loras=folder.parent / "loras",
        )  # fmt: skip
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=folders)


def size_of(fields: Fields) -> tuple[int, int]:
    return fields.get("width", 64), fields.get("height", 64)


def shown_to(fields: Fields, key: int) -> list[Image.Image]:
    return [picture(10 * key + place) for place in range(len(fields.get("ip_adapter", ())))]


def task(denoiser: PipelineDenoiser, key: int, fields: Fields, shown: int) -> Task:
    """The pictures that it looks at are those of job number ``shown``."""
    begins_with = {"image": b"opened already"} if "type" in fields else {}
    masked = {"mask": b"opened already"} if fields.get("type") == "inpaint" else {}
    asked = {"prompt": "a cat", "seed": key, "guidance_scale": 4.0, "width": 64, "height": 64}
    request = CompleteRequest.model_validate({**asked, **fields, **begins_with, **masked})
    size = size_of(fields)
    return Task(
        key, request, init_image=picture(99).resize(size) if begins_with else None, mask=MASK.resize(size) if masked else None,
        controls=[picture(98).resize(size)] if "control" in fields else [], image_prompts=shown_to(fields, shown),
        files=denoiser.read_files(request),
    )  # fmt: skip


def stepped(model: Model, shown: int = 0) -> list[Sample]:
    """The images of ``JOBS``, to be decoded; each looks at the pictures of the job ``shown`` places on."""
    tasks = [task(model.denoiser, key, fields, key + shown) for key, fields in enumerate(JOBS)]
    samples = [Sample(each, 0, model.denoiser.kind_of(each.request), 2) for each in tasks]
    assert model.denoiser.begin(samples) == {}
    together = {sample.task.key for sample in samples if sample.kind == samples[0].kind}
    assert together == {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11}, "whatever they look at, they share a call"
    while stepping := [sample for sample in samples if not sample.finished]:
        assert model.denoiser.step([each for each in stepping if each.kind == stepping[0].kind], 64) == {}
    return samples


def latents(samples: list[Sample]) -> list[torch.Tensor]:
    found = [state_of(sample).scheduler.latents for sample in samples]
    return [each for each in found if each is not None]


def alone(model: Model, key: int, fields: Fields) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents of the last step, and the picture."""
    base = DiffusionPipeline.from_pretrained(model.folder)
    infix = {"img2img": "Img2Img", "inpaint": "Inpaint"}.get(fields.get("type", ""), "")
    stem = type(base).__name__.removesuffix("Pipeline")
    size = size_of(fields)
    given: Fields = {}
    if "control" in fields:
        base = getattr(diffusers, f"{stem}ControlNetPipeline")(**base.components, controlnet=model.controlnet)
        given["image"] = picture(98).resize(size)
    elif infix:
        base = getattr(diffusers, f"{stem}{infix}Pipeline")(**base.components)
        given = {"image": picture(99).resize(size), "strength": fields["strength"]}
    if infix == "Inpaint":
        given["mask_image"] = MASK.resize(size)
    if "loras" in fields:
        base.load_lora_weights(str(model.folder.parent / "loras/ink.safetensors"), adapter_name="ink")
        base.set_adapters(["ink"], [0.8])
    if uses := fields.get("ip_adapter"):
        files = [f"{use['name']}.safetensors" for use in uses]
        base.load_ip_adapter(str(model.folder.parent / "ip-adapters"), subfolder="models", weight_name=files)
        base.set_ip_adapter_scale([float(use.get("scale", 1.0)) for use in uses])
        given["ip_adapter_image"] = shown_to(fields, key)
    return last_step_and_picture(
        base, prompt="a cat", num_inference_steps=fields["steps"], guidance_scale=fields.get("guidance_scale", 4.0),
        width=size[0], height=size[1], generator=torch.Generator().manual_seed(key), **given,
    )  # fmt: skip


def test_each_picture_of_a_batch_looks_at_its_own(model: Model) -> None:
    samples = stepped(model)
    made = latents(samples)
    drawn = all_finished(model.denoiser, samples)
    for key, fields in enumerate(JOBS):
        last, image = alone(model, key, fields)
        assert (made[key] - last).abs().max() <= 1e-4 * last.abs().max(), fields
        pixels = torch.as_tensor(drawn[key]).permute(2, 0, 1).float() / 255
        assert (pixels - image).abs().max() < 1.5 / 255, fields


def test_the_comparison_would_see_the_picture_of_a_neighbour(model: Model) -> None:
    right, wrong = latents(stepped(model)), latents(stepped(model, shown=1))
    for one, other, fields in zip(right, wrong, JOBS, strict=True):
        counts = any(use.get("scale", 1) for use in fields.get("ip_adapter", ()))
        if counts:
            assert (one - other).abs().max() > 2e-2 * one.abs().max(), fields
        else:
            assert (one - other).abs().max() <= 1e-5 * one.abs().max(), fields


def test_nothing_of_it_stays_in_the_network(model: Model) -> None:
    network = model.denoiser._pipelines.denoiser
    before = {name: id(each) for name, each in network.attn_processors.items()}
    stepped(model)
    assert {name: id(each) for name, each in network.attn_processors.items()} == before
    assert network.encoder_hid_proj is None
    assert all(not name.endswith("_ip") for name, _ in network.named_modules())


def read(denoiser: PipelineDenoiser, name: str) -> Any:
    return denoiser.read_files(CompleteRequest.model_validate({"prompt": "", "ip_adapter": [{**PLAIN, "name": name}]}))


def test_what_is_not_there_gets_the_nearest(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="there is no IP-Adapter 'plane' here; did you mean 'plain'") as caught:
        read(model.denoiser, "plane")
    assert caught.value.field == "ip_adapter"
    assert model.denoiser.offer().ip_adapters == ["plain", "plus"], "an image encoder is none"
    with pytest.raises(InvalidRequest, match="there is no IP-Adapter 'image_encoder'"):
        read(model.denoiser, "image_encoder")


def test_one_of_another_family_is_refused_with_both_names(model: Model, tmp_path: Path) -> None:
    network = model.denoiser._pipelines.denoiser
    keys = sum(not name.endswith("attn1.processor") for name in network.attn_processors)
    whole = {"image_proj.proj.weight": torch.ones(8, _PROJECTED)}

    def layers(number: int, width: int) -> Mapping[str, torch.Tensor]:
        return {f"ip_adapter.{2 * place + 1}.{each}_ip.weight": torch.ones(4, width) for place in range(number) for each in ("to_k", "to_v")}

    save_file({**whole, **layers(keys, 2048)}, tmp_path / "sdxl.safetensors")
    save_file({**whole, **layers(keys + 1, network.config.cross_attention_dim)}, tmp_path / "longer.safetensors")
    denoiser = opened(model.folder, tmp_path)
    kind = type(denoiser._pipelines.base).__name__
    with pytest.raises(InvalidRequest, match=f"the IP-Adapter 'sdxl' does not fit this model, of {kind}: it is for Stable Diffusion XL"):
        read(denoiser, "sdxl")
    with pytest.raises(InvalidRequest, match=f"it is for {keys + 1} layers, and this model has {keys}"):
        read(denoiser, "longer")


def test_what_is_none_or_of_faces_or_broken_is_said_to_be_that(model: Model, tmp_path: Path) -> None:
    save_file({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    face = {"image_proj.norm.weight": torch.ones(2), "image_proj.proj.0.weight": torch.ones(2, 2)}
    save_file({**face, "ip_adapter.1.to_k_ip.weight": torch.ones(2, 2)}, tmp_path / "face.safetensors")
    save_file({"image_proj.q": torch.ones(2), "ip_adapter.1.to_k_ip.weight": torch.ones(2, 2)}, tmp_path / "odd.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no file of this kind")
    denoiser = opened(model.folder, tmp_path)
    for name, said in (("lora", "is a LoRA"), ("face", "is one of faces"), ("odd", "of a kind that is not known here")):
        with pytest.raises(InvalidRequest, match=said):
            read(denoiser, name)
    with pytest.raises(ModelError, match="the IP-Adapter 'broken' cannot be read"):
        read(denoiser, "broken")


def test_without_its_image_encoder_it_says_which_is_missing(model: Model, tmp_path: Path) -> None:
    (tmp_path / "plus.safetensors").symlink_to(model.folder.parent / "ip-adapters/models/plus.safetensors")
    denoiser = opened(model.folder, tmp_path)
    with pytest.raises(InvalidRequest, match=f"no image encoder whose hidden_size is {_SEEN} lies beside it"):
        read(denoiser, "plus")
    (tmp_path / "image_encoder").mkdir()
    config = model.folder.parent / "ip-adapters/models/image_encoder/config.json"
    (tmp_path / "image_encoder/config.json").write_bytes(config.read_bytes())
    with pytest.raises(ModelError, match="the image encoder 'image_encoder' cannot be read"):
        read(denoiser, "plus")


def test_a_model_that_takes_none_says_so(tmp_path: Path) -> None:
    denoiser = opened(save("FLUX.1 dev", tmp_path))
    with pytest.raises(InvalidRequest, match="this model, of FluxPipeline, takes no IP-Adapters"):
        read(denoiser, "plain")


def test_a_network_that_looks_at_a_picture_by_itself_keeps_it() -> None:
    arguments = {"sample": torch.ones(2, 4), "added_cond_kwargs": {"image_embeds": torch.ones(2, 8)}}
    assert taken_out(arguments, ()) == (arguments, [])
