"""The configs that come with the package, against what is known of the real models; and a file of real size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import diffusers
import pytest
import torch
import transformers

from stablediffusiond.engine.checkpoints import components
from stablediffusiond.engine.checkpoints.families import FAMILIES, Family
from stablediffusiond.engine.checkpoints.header import Header, TensorFacts
from stablediffusiond.engine.checkpoints.recognition import recognise
from stablediffusiond.engine.checkpoints.tokenizers import clip_tokenizer
from tests.engine import original_layout
from tests.engine.hollow_files import written
from tests.engine.tiny_files import network_state

#: Config -> tensors in the original layout, and millions of weights, as published.
_KNOWN: Final = {
    "unet-sd1": (686, 860), "unet-sd2": (686, 866), "unet-xl": (1680, 2567), "unet-xl-refiner": (1220, 2260),
    "transformer-flux-dev": (780, 11901), "transformer-flux-schnell": (776, 11891), "vae-sd": (248, 84),
    "vae-xl": (248, 84), "vae-flux": (244, 84), "vae-sd3": (244, 84), "clip-l": (196, 123), "clip-g": (517, 695),
    "t5-xxl": (219, 4762),
}  # fmt: skip


def on_meta(architecture: str, folder: str, **more: object) -> Any:
    """Without memory for its weights."""
    config = {**components.config_of(folder), **more}
    with torch.device("meta"):
        if (of_class := getattr(diffusers, architecture, None)) is not None:
            return of_class.from_config(config)
        of_class = getattr(transformers, architecture)
        return of_class(of_class.config_class(**{key: each for key, each in config.items() if key != "model_type"}))


@pytest.mark.parametrize("of", FAMILIES, ids=lambda each: each.name)
def test_a_file_of_real_size_is_recognised_and_all_of_it_is_used(of: Family) -> None:
    _, architecture, folder = of.network
    model = on_meta(architecture, folder, **of.network_options)
    state = network_state(model)
    facts = {name: TensorFacts("F16", tuple(each.shape)) for name, each in state.items()}
    assert recognise(Header(Path("model.safetensors"), facts)).family is of
    wanted = model.state_dict()
    bare = state if of.network[0] == "unet" else network_state(model, "")
    converted = components.converted(architecture, dict(model.config), bare)
    assert {name: each.shape for name, each in converted.items()} == {name: each.shape for name, each in wanted.items()}


@pytest.mark.parametrize("folder", _KNOWN)
def test_configs_make_networks_of_the_published_sizes(folder: str) -> None:
    architecture = {"vae": "AutoencoderKL", "t5": "T5EncoderModel", "clip": "CLIPTextModel"}.get(
        folder.partition("-")[0]
    )
    if folder == "clip-g":
        architecture = "CLIPTextModelWithProjection"
    network = next((of.network[1] for of in FAMILIES if of.network[2] == folder), None)
    model = on_meta(architecture or str(network), folder)
    state = original_layout.vae(model, "") if folder.startswith("vae") else model.state_dict()
    if network is not None:
        state = network_state(model)
    names = {name for name in state if not name.endswith(("position_ids", "embed_tokens.weight"))}
    weights = sum(each.numel() for each in model.parameters())
    assert (len(names), round(weights / 1e6)) == _KNOWN[folder]


def test_the_tokenizer_of_clip_numbers_words_as_the_original_does() -> None:
    known = {
        "a cat": [320, 2368],
        "a photo of an astronaut riding a horse on mars": [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496],
    }
    tokenizer = clip_tokenizer()
    for text, numbers in known.items():
        assert tokenizer(text).input_ids == [49406, *numbers, 49407]
    assert (len(tokenizer), tokenizer.pad_token_id, tokenizer.model_max_length) == (49408, 49407, 77)
    assert clip_tokenizer("!").pad_token_id == 0


#: Opens the file that is named, and says what is so; the memory is the most that the process ever had.
_OPEN: Final = """
import json, resource, socket, sys, time
socket.socket.connect = lambda *_: sys.exit("somebody else was asked")
import torch
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.settings import ModelSettings
imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.monotonic()
pipeline = load_pipeline(ModelSettings(name=sys.argv[1], device="cpu", dtype="float16"))
seconds = time.monotonic() - began
weights = sum(p.numel() for m in (pipeline.unet, pipeline.vae, pipeline.text_encoder) for p in m.parameters())
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported
print(json.dumps({"kind": type(pipeline).__name__, "millions": round(weights / 1e6), "seconds": seconds, "kib": more}))
"""


def test_a_file_of_real_size_opens_without_a_network_and_without_a_second_copy(tmp_path: Path) -> None:
    """Stable Diffusion 1.5 in float16: 2.1 GB of noughts, which lie in a hole on the disk."""
    of = FAMILIES[0]
    state = network_state(on_meta(of.network[1], of.network[2])) | original_layout.vae(
        on_meta("AutoencoderKL", of.vae), "first_stage_model."
    )
    state |= original_layout.transformers_layout(on_meta("CLIPTextModel", "clip-l"), of.text_encoders[0].prefix)
    file = written(
        tmp_path, {name: tuple(each.shape) for name, each in state.items()}, "v1-5-pruned-emaonly.safetensors"
    )
    assert round(file.stat().st_size / 1e9, 1) == 2.1
    try:
        ran = subprocess.run(
            [sys.executable, "-c", _OPEN, str(file)], capture_output=True, text=True, check=False, timeout=200
        )
    finally:
        file.unlink()
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert (said["kind"], said["millions"]) == ("StableDiffusionPipeline", 1066)
    assert said["kib"] < 1.5 * 2.1e9 / 1024, "its weights once, and not a second time"
