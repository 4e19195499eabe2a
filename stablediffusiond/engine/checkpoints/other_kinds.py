"""What else is shipped as a safetensors file, and is no model of pictures, or none that opens from a single file."""

import re
from dataclasses import dataclass
from typing import Final

from stablediffusiond.engine.checkpoints.header import Header

_FOLDER: Final = (
    "name its folder in the layout of diffusers, or its hub id; a file of its transformer goes with these as [model] "
    "transformer"
)
_ADDED: Final = "it is added to a model, and [model] name has to name the model it was made for"
_NO_PICTURES: Final = "text-to-image models can be served"
_TEXT: Final = "it belongs into the folder that [model] text_encoders names"


@dataclass(frozen=True)
class _Kind:
    what: str
    todo: str
    tensors: str
    """A pattern that the name of one tensor matches."""


#: In this order: a file may have tensors of several.
_KINDS: Final = (
    _Kind(
        "a LoRA", _ADDED,
        r"(\.|_)lora_(down|up|A|B|mid)(\.|$)|\.lora\.(down|up)\.|^lora_(unet|te)|lora_linear_layer|\.hada_w1_|\.lokr_w",
    ),
    _Kind("an embedding (textual inversion)", _ADDED, r"^emb_params$|^string_to_param|^clip_[lg]$|^<[^>]+>$"),
    _Kind("an IP-Adapter", _ADDED, r"^(image_proj|ip_adapter)\."),
    _Kind(
        "a ControlNet", _ADDED,
        r"^control_model\.|controlnet_cond_embedding\.|input_hint_block\."
        r"|^controlnet_(blocks|down_blocks|mid_block|x_embedder)|^control_(all_x_embedder|layers)"
        r"|^adapter\.(body|conv_in)|^body\.0\.block1\.",
    ),
    _Kind("a motion module, which makes videos", _NO_PICTURES, r"motion_modules\.\d+\.temporal_transformer"),
    _Kind(
        "a model of videos", _NO_PICTURES,
        r"\.time_stack\.|^net\.blocks\.|token_refiner\.blocks\.|^(model\.)?(diffusion_model\.)?"
        r"(head\.modulation$|patchify_proj\.|blocks\.0\.attn\.qkv_x\.|txt_in\.individual_token_refiner|audio_)",
    ),
    _Kind(
        "a model of sounds", _NO_PICTURES,
        r"seconds_total|^model\.model\.timestep_features|^audio_vae\.|^pretransform\.",
    ),
    _Kind(
        "a model of FLUX's kind, but one that asks for more than a prompt, or a later one", _FOLDER,
        r"^(model\.)?(diffusion_model\.)?((single_stream|early_stream)_modulation|img_in\.weight$)",
    ),
    _Kind(
        "a model of a kind that does not open from a single file", _FOLDER,
        r"^(model\.)?(diffusion_model\.)?(cap_embedder|layers\.0\.adaLN_modulation|double_layers\.0|"
        r"distilled_guidance_layer|txtfusion|double_stream_blocks|blocks\.0\.cross_attn\.|txt_in\.|"
        r"transformer_blocks\.0\.img_mod|clip_txt_mapper|joint_blocks\.)",
    ),
    _Kind(
        "a UNet, but of an upscaler, of a model that asks for more than a prompt (depth, image embeddings), or of a "
        "smaller relative", _FOLDER, r"^(model\.diffusion_model\.)?input_blocks\.",
    ),
    _Kind(
        "a language model in the layout of llama.cpp",
        "take it as safetensors, in the folder that [model] text_encoders names", r"^(enc\.|dec\.)?blk\.\d+\.",
    ),
    _Kind("a language model", _TEXT, r"^(model\.)?(embed_tokens|layers\.\d+\.self_attn)\."),
    _Kind(
        "a text encoder alone", _TEXT,
        r"(^|\.)text_model\.encoder\.layers\.|^encoder\.block\.0\.layer\.0\.SelfAttention|^transformer\.resblocks\."
        r"|^cond_stage_model\.|^conditioner\.",
    ),
    _Kind(
        "a VAE alone", "write [model] vae = to use it with the model that [model] name names",
        r"^(first_stage_model\.|vae\.)?decoder\.(conv_in|mid_block|up_blocks|layers)",
    ),
    _Kind(
        "a part of a model in the layout of diffusers, without the rest", _FOLDER,
        r"^(down_blocks|up_blocks|mid_block|transformer_blocks|single_transformer_blocks)\.",
    ),
    _Kind("an upscaler of pictures", _NO_PICTURES, r"^model\.\d+\.(sub|weight)|^conv_first\.|^body\.\d+\.rdb"),
)  # fmt: skip

#: What looks like a family that is opened, and is run in another way (EDM: Playground 2.5, CosXL).
_DISGUISED: Final = re.compile(r"^edm_(mean|std)$|^edm_vpred\.")


def disguise_of(header: Header) -> str | None:
    """What a file is that has a family's tensors and would be drawn with wrongly; as the end of a sentence."""
    if any(_DISGUISED.search(name) for name in header.tensors):
        return f"is a model whose noise is scaled as EDM does it, and does not open from a single file; {_FOLDER}"
    return None


def kind_of(header: Header) -> str:
    """What the file is, and what to do with it, as the end of a sentence."""
    if not header.tensors:
        return "holds no tensors"
    for kind in _KINDS:
        found = re.compile(kind.tensors)
        if any(found.search(name) for name in header.tensors):
            return f"is {kind.what}; {kind.todo}"
    some = ", ".join(sorted(header.tensors)[:3])
    return f"is of a kind that is not known here (its tensors: {some}, …); {_FOLDER}"
