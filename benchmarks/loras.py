"""What LoRAs cost: a step of eight images without any, with one for all, and with four different ones.

    python benchmarks/loras.py [--model doodle] [--rank 16] [--rounds 40] [--output FILE.json]

The LoRAs are for the attention of the denoiser, as most are, and have random weights. The steps of each kind are made
in turn, and each figure is the median over the rounds of ratios of neighbours.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import report
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.malloc import have_one_heap
from stablediffusiond.engine.models import load, load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import FolderSettings, ModelSettings

IMAGES = 8
#: Which LoRA each image has, by what is measured.
KINDS: dict[str, list[str | None]] = {
    "none": [None] * IMAGES,
    "one_for_all": ["0"] * IMAGES,
    "four_different": [str(image // 2) for image in range(IMAGES)],
    "one_in_eight": ["0", *[None] * (IMAGES - 1)],
}


def write(network: Any, folder: Path, rank: int) -> int:
    """Four files; returns how many layers each has something for."""
    count = 0
    for name in ("0", "1", "2", "3"):
        generator = torch.Generator().manual_seed(int(name))
        tensors = {}
        for path, layer in network.named_modules():
            if isinstance(layer, torch.nn.Linear) and path.endswith(("to_q", "to_k", "to_v", "to_out.0")):
                down, up = (rank, layer.in_features), (layer.out_features, rank)
                tensors[f"unet.{path}.lora_A.weight"] = torch.randn(down, generator=generator) * 0.02
                tensors[f"unet.{path}.lora_B.weight"] = torch.randn(up, generator=generator) * 0.02
        count = len(tensors) // 2
        save_file(tensors, folder / f"{name}.safetensors")
    return count


def begun(denoiser: PipelineDenoiser, loras: list[str | None], steps: int) -> list[Sample]:
    samples = []
    for key, lora in enumerate(loras):
        asked = [] if lora is None else [{"name": lora, "scale": 0.8}]
        request = CompleteRequest.model_validate({"prompt": "a red cat", "seed": key, "steps": steps, "loras": asked})
        task = Task(key, request, files=denoiser.read_files(request))
        samples.append(Sample(task, 0, denoiser.kind_of(request), 2))
    if failed := denoiser.begin(samples):
        raise next(iter(failed.values()))
    return samples


def seconds(denoiser: PipelineDenoiser, samples: list[Sample]) -> float:
    began = time.perf_counter()
    if failed := denoiser.step(samples, 2 * IMAGES):
        raise next(iter(failed.values()))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = report.options(__doc__, "loras.json")
    parser.add_argument("--model", default="doodle")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    have_one_heap()
    with tempfile.TemporaryDirectory() as folder:
        model = ModelSettings(name=chosen.model)
        layers = write(load_pipeline(model).unet, Path(folder), chosen.rank)
        denoiser = load(model, folders=FolderSettings(loras=Path(folder)))
        samples = {kind: begun(denoiser, loras, chosen.rounds + 2) for kind, loras in KINDS.items()}
        for each in samples.values():
            seconds(denoiser, each)
        took: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in range(chosen.rounds):
            for kind, each in samples.items():
                took[kind].append(seconds(denoiser, each))
    ratios = {
        f"{kind}_to_none": round(statistics.median(a / b for a, b in zip(took[kind], took["none"], strict=True)), 3)
        for kind in KINDS
        if kind != "none"
    }
    milliseconds = {kind: round(statistics.median(each) * 1000, 1) for kind, each in took.items()}
    made = {"step_milliseconds": milliseconds, **ratios, "layers": layers, "rank": chosen.rank, "rounds": chosen.rounds}
    report.write(made, chosen.output)


if __name__ == "__main__":
    main()
