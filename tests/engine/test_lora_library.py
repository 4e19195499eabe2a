"""LoRAs by their names, and what is refused at once: kinds that need other arithmetic, other families, other files."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from stablediffusiond.engine.checkpoints import header
from stablediffusiond.engine.loras.kinds import about
from stablediffusiond.engine.loras.library import LoraLibrary
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.loras import LoraUse
from tests.engine import lora_files
from tests.engine.families import save

BYTES = 2**30


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return DiffusionPipeline.from_pretrained(save("Stable Diffusion 1", tmp_path_factory.mktemp("family")))


@pytest.fixture(scope="module")
def folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("ink", "wool", "below/Glass")):
        lora_files.kohya(pipeline, folder / f"{name}.safetensors", seed)
    (folder / "notes.txt").write_text("no LoRA")
    return folder


def used(library: LoraLibrary, *names: str) -> list[Any]:
    return [applied.lora for applied in library.adapters([LoraUse(name=name) for name in names])]


def test_a_lora_is_its_files_name_in_whatever_case(pipeline: Any, folder: Path) -> None:
    library = LoraLibrary(pipeline, folder, BYTES)
    assert [facts.name for facts in library.facts()] == ["Glass", "ink", "wool"]
    assert {facts.family for facts in library.facts()} == {"Stable Diffusion 1"}
    assert [lora.name for lora in used(library, "ink", "glass", "WOOL")] == ["ink", "Glass", "wool"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [("inc", "did you mean 'ink'"), ("wol", "did you mean 'wool'"), ("zzzzzz", "there are 3, as 'Glass'"),
     ("../ink", "there is no LoRA '../ink'"), ("", "there is no LoRA ''")],
)  # fmt: skip
def test_a_name_that_nobody_has_gets_the_nearest(pipeline: Any, folder: Path, asked: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        LoraLibrary(pipeline, folder, BYTES).adapters([LoraUse.model_construct(name=asked, scale=1.0)])
    assert caught.value.field == "loras"


def test_without_a_folder_the_settings_are_named(pipeline: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"this service has none \(\[folders\] loras\)"):
        used(LoraLibrary(pipeline, None, BYTES), "ink")


def test_what_is_read_is_kept_until_others_need_its_bytes(
    pipeline: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = used(LoraLibrary(pipeline, folder, BYTES), "ink")[0].nbytes
    caplog.set_level(logging.INFO)
    library = LoraLibrary(pipeline, folder, 2 * one)
    ink, wool = used(library, "ink", "wool")
    assert used(library, "ink", "wool") == [ink, wool]
    used(library, "ink")
    used(library, "glass")  # in the place of wool, which was used longest ago
    assert used(library, "ink") == [ink]
    assert used(library, "wool") != [wool]
    read = [record.getMessage().split()[2] for record in caplog.records if "is read" in record.getMessage()]
    assert read == ["ink", "wool", "Glass", "wool"]


def test_a_file_that_has_changed_is_read_again(pipeline: Any, tmp_path: Path) -> None:
    path = lora_files.kohya(pipeline, tmp_path / "ink.safetensors", 1)
    library = LoraLibrary(pipeline, tmp_path, BYTES)
    [before] = used(library, "ink")
    lora_files.kohya(pipeline, path, 2)
    os.utime(path, ns=(1, 1))
    assert used(library, "ink") != [before]


def _renamed(old: str, new: str) -> Any:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def _with(name: str) -> Any:
    return lambda tensors: {**tensors, f"{next(iter(tensors)).split('.')[0]}.{name}": torch.ones(4, 4)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_with("dora_scale"), "is a DoRA"),
        (_renamed(".lora_down.weight", ".hada_w1_a"), "is a LoHa"),
        (_renamed(".lora_down.weight", ".lokr_w1"), "is a LoKr"),
        (_with("oft_blocks"), "is an OFT"),
        (_with("lora_mid.weight"), "is a LoCon in Tucker's form"),
        (_with("diff"), "whole weights"),
        (_with("on_input"), "is an IA3"),
        (lambda _: {"emb_params": torch.ones(2, 8)}, "is an embedding"),
        (lambda _: {"control_model.input_hint_block.0.weight": torch.ones(2, 8)}, "is a ControlNet"),
    ],
)
def test_what_would_be_drawn_wrongly_is_refused_by_its_name(
    pipeline: Any, folder: Path, tmp_path: Path, change: Any, said: str
) -> None:
    lora_files.changed(folder / "ink.safetensors", tmp_path / "odd.safetensors", change)
    with pytest.raises(InvalidRequest, match=said) as caught:
        used(LoraLibrary(pipeline, tmp_path, BYTES), "odd")
    assert "'odd'" in str(caught.value)


@pytest.mark.parametrize(("family", "noted"), [("Stable Diffusion XL", {"ss_base_model_version": "sdxl_base_v1-0"}),
                                               ("Stable Diffusion 3", {}), ("FLUX.1 dev", {})])  # fmt: skip
def test_a_lora_of_another_family_is_refused_with_both_names(
    pipeline: Any, tmp_path: Path, family: str, noted: dict[str, str]
) -> None:
    other = DiffusionPipeline.from_pretrained(save(family, tmp_path / "family"))
    if hasattr(other, "unet"):
        path = lora_files.kohya(other, tmp_path / "loras" / "odd.safetensors", 1)
    else:
        path = lora_files.peft(other, tmp_path / "loras" / "odd.safetensors", 1, parts=("transformer",))
    lora_files.changed(path, path, lambda tensors: tensors, noted)
    expected = family.removesuffix(" dev")
    with pytest.raises(InvalidRequest, match=f"'odd' is for {expected}, and this model is of StableDiffusionPipeline"):
        used(LoraLibrary(pipeline, tmp_path / "loras", BYTES), "odd")


def test_a_file_that_is_cut_off_is_said_to_be(pipeline: Any, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "ink.safetensors").read_bytes()
    (tmp_path / "ink.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "wool.safetensors").write_bytes(b"no file of this kind")
    library = LoraLibrary(pipeline, tmp_path, BYTES)
    for name in ("ink", "wool"):
        with pytest.raises(ModelError, match=f"the LoRA '{name}' cannot be read: {name}.safetensors is ") as caught:
            used(library, name)
        assert str(tmp_path) not in str(caught.value), "a client need not know where a service's files are"


def test_a_model_that_takes_no_loras_says_so(folder: Path, tmp_path: Path) -> None:
    pixart = DiffusionPipeline.from_pretrained(save("PixArt", tmp_path))
    with pytest.raises(InvalidRequest, match="takes no LoRAs"):
        used(LoraLibrary(pixart, folder, BYTES), "ink")


def test_alphas_that_diffusers_notes_in_the_header_count(pipeline: Any, tmp_path: Path) -> None:
    """Half of the alpha is half of the LoRA."""
    path = lora_files.peft(pipeline, tmp_path / "a.safetensors", 1, rank=4)
    notes = {"lora_adapter_metadata": '{"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {"to_k": 8}}'}
    lora_files.changed(path, tmp_path / "b.safetensors", lambda tensors: tensors, notes)
    plain, noted = used(LoraLibrary(pipeline, tmp_path, BYTES), "a", "b")
    layers = dict(pipeline.unet.named_modules())
    for name, factor in (("to_q", 0.5), ("to_k", 2.0)):
        layer = next(each for path, each in layers.items() if path.endswith(f"attn1.{name}"))
        one, other = plain.networks[pipeline.unet][layer], noted.networks[pipeline.unet][layer]
        assert torch.allclose(one.down * factor, other.down)


@pytest.mark.parametrize(
    ("notes", "triggers"),
    [
        ({"modelspec.trigger_phrase": "in the style of ink"}, ("in the style of ink",)),
        ({"ss_tag_frequency": '{"5_a": {"ink style": 9, "cat": 2}, "2_b": {"cat": 1}}'}, ("ink style", "cat")),
        ({"ss_tag_frequency": "[1]"}, ()),
        ({"ss_tag_frequency": "{"}, ()),
        ({}, ()),
    ],
)
def test_the_words_that_call_for_it_are_read_from_the_header(
    tmp_path: Path, notes: dict[str, str], triggers: tuple[str, ...]
) -> None:
    save_file({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "a.safetensors", notes)
    assert about(header.read(tmp_path / "a.safetensors")).triggers == triggers
