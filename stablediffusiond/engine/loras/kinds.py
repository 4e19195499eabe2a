"""What a LoRA file's header tells: whether it is one that can be applied here, and what its maker noted in it."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stablediffusiond.engine.checkpoints.header import Header
from stablediffusiond.engine.checkpoints.other_kinds import kind_of
from stablediffusiond.errors import InvalidRequest

#: What is called a LoRA, too, and needs other arithmetic: a pattern that the name of one tensor matches.
_OTHER_ARITHMETIC: Final = (
    ("a DoRA", r"\.dora_scale$|lora_magnitude_vector"),
    ("a LoHa", r"\.hada_"),
    ("a LoKr", r"\.lokr_"),
    ("an OFT", r"\.oft_|\.boft_|\.oft_blocks|\.vera_"),
    ("a LoCon in Tucker's form", r"\.lora_mid\."),
    ("an IA3", r"\.on_input$"),
    ("a GLoRA", r"\.[ab][12]\.weight$"),
    ("a file with whole weights beside its LoRA", r"\.(diff|diff_b|set_weight|w_norm|b_norm|reshape_weight)$"),
)
_LORA: Final = re.compile(r"(\.|_)lora_?(down|up|A|B)(\.|$)|\.lora\.(down|up)\.|lora_linear_layer|_lora\.(down|up)\.")

#: A family of models by what trainers note (kohya, ai-toolkit, sd-scripts), as the beginning of the note.
_NOTED: Final = (
    ("sd_v1", "Stable Diffusion 1"), ("sd_1", "Stable Diffusion 1"), ("stable-diffusion-v1", "Stable Diffusion 1"),
    ("sd_v2", "Stable Diffusion 2"), ("sd_2", "Stable Diffusion 2"), ("stable-diffusion-v2", "Stable Diffusion 2"),
    ("sdxl", "Stable Diffusion XL"), ("stable-diffusion-xl", "Stable Diffusion XL"),
    ("sd3", "Stable Diffusion 3"), ("stable-diffusion-3", "Stable Diffusion 3"),
    ("flux2", "FLUX.2"), ("flux-2", "FLUX.2"), ("flux", "FLUX.1"),
    ("qwen", "Qwen-Image"), ("zimage", "Z-Image"), ("z-image", "Z-Image"), ("lumina2", "Lumina 2"),
    ("doodle", "doodle"),
)  # fmt: skip
_NOTES: Final = ("modelspec.architecture", "ss_base_model_version", "ss_sd_model_name")
#: … and by its tensors: a pattern of a name, and the width of the text that it reads, if that counts.
_TENSORS: Final = (
    ("FLUX.1", r"(lora_unet_|transformer\.)(double_blocks|single_blocks|single_transformer_blocks)", None),
    ("Stable Diffusion 3", r"joint_blocks|transformer_blocks\.\d+\.attn\.add_[qkv]_proj", None),
    ("Stable Diffusion XL", r"^lora_te2_|^text_encoder_2\.", None),
    ("Stable Diffusion 1", r"attn2[._]to_k", 768),
    ("Stable Diffusion 2", r"attn2[._]to_k", 1024),
    ("Stable Diffusion XL", r"attn2[._]to_k", 2048),
)
_MOST_TRIGGERS: Final = 5


@dataclass(frozen=True)
class About:
    """What a file's maker noted in it."""

    family: str | None  #: of the models that it is for
    triggers: tuple[str, ...]  #: words that call for what it has learnt
    title: str | None = None


def check(header: Header) -> None:
    """Raise InvalidRequest for what is no LoRA, or none that is applied here."""
    for what, pattern in _OTHER_ARITHMETIC:
        if any(re.search(pattern, name) for name in header.tensors):
            raise InvalidRequest(f"{header.path.stem!r} is {what}, which is not applied here, only LoRAs and LoCons")
    if not any(_LORA.search(name) for name in header.tensors):
        raise InvalidRequest(f"{header.path.stem!r} in the folder of LoRAs {kind_of(header)}")


def about(header: Header) -> About:
    """What the file says of itself."""
    notes = header.notes
    title = notes.get("modelspec.title") or notes.get("ss_output_name") or None
    return About(_family(header), _triggers(notes), title)


def _family(header: Header) -> str | None:
    for note in filter(None, (header.notes.get(name, "").lower() for name in _NOTES)):
        for beginning, family in _NOTED:
            if note.startswith(beginning):
                return family
    for family, pattern, width in _TENSORS:
        for name, facts in header.tensors.items():
            reads = "down" in name or "lora_A" in name
            if re.search(pattern, name) and (width is None or (reads and facts.shape[1:2] == (width,))):
                return family
    return None


def _triggers(notes: Mapping[str, str]) -> tuple[str, ...]:
    """The phrase that was noted on purpose, else the tags that most of the pictures had that it learnt from."""
    if phrase := notes.get("modelspec.trigger_phrase", "").strip():
        return (phrase[:200],)
    try:
        folders = json.loads(notes.get("ss_tag_frequency") or "{}")
        counted: Counter[str] = Counter()
        for tags in folders.values():
            counted.update({str(tag).strip(): int(times) for tag, times in tags.items()})
    except (ValueError, AttributeError, TypeError):
        return ()  # what a stranger wrote there need not be what kohya writes
    return tuple(tag[:200] for tag, _ in counted.most_common(_MOST_TRIGGERS) if tag)
