"""The families of models that are opened from a single file: how a file's header tells them, and what they are made of.

Every component's config is a fact in JSON, in ``configs/``. The names of tensors are those of the original programs
(CompVis, Stability AI, Black Forest Labs, ComfyUI); what stands before the name of a tensor of the network varies, and
is left out here.
"""

from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.engine.checkpoints.header import Header

#: What may stand before the names of the network's tensors; bare ones are files of the network alone.
NETWORK_PREFIXES: Final = ("model.diffusion_model.", "diffusion_model.", "")
VAE_PREFIXES: Final = ("first_stage_model.", "vae.")


@dataclass(frozen=True)
class Sign:
    """A tensor of the network that is there; one of whose dimensions, if given, has a certain size."""

    tensor: str
    dimension: int | None = None
    size: int | None = None

    def on(self, header: Header, prefix: str) -> bool:
        shape = header.shape(prefix + self.tensor)
        if self.dimension is None:
            return bool(shape)
        return len(shape) > self.dimension and shape[self.dimension] == self.size


@dataclass(frozen=True)
class TextEncoder:
    """A component that reads prompts, called ``component``; where its weights lie in the file, if they do."""

    component: str
    kind: str
    """Its folder in ``configs/``."""
    architecture: str
    prefix: str
    padding: str | None = "<|endoftext|>"
    """The token that fills prompts up; None where the tokenizer does not come with the package."""
    required: bool = True
    unprojected: bool = False
    """Whether the model wants what comes before the last projection."""

    @property
    def tokenizer(self) -> str:
        return self.component.replace("text_encoder", "tokenizer")


@dataclass(frozen=True)
class Family:
    name: str
    signs: tuple[Sign, ...]
    pipeline: str
    network: tuple[str, str, str]
    """The component's name, diffusers' class, and its folder in ``configs/``."""
    vae: str
    text_encoders: tuple[TextEncoder, ...]
    scheduler: str
    lacks: tuple[str, ...] = ()
    """Tensors of the network that tell another family."""
    network_options: dict[str, object] = field(default_factory=dict)
    options: dict[str, object] = field(default_factory=dict)
    velocity: str | None = None
    """A tensor whose values spread further where the network predicts v (``prediction.py``)."""


_INPUT: Final = "input_blocks.0.0.weight"


def _channels(number: int) -> Sign:
    return Sign(_INPUT, 1, number)


_TEXT_768: Final = Sign("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, 768)
_TEXT_1024: Final = Sign("input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", 1, 1024)
_TEXT_2048: Final = Sign("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 1, 2048)
_TEXT_1280: Final = Sign("input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight", 1, 1280)
_LABELLED: Final = "label_emb.0.0.weight"
_DISTILLED: Final = "time_embed.cond_proj.weight"
_VIDEO: Final = "input_blocks.1.0.time_stack.in_layers.0.weight"

_CLIP_1: Final = TextEncoder("text_encoder", "clip-l", "CLIPTextModel", "cond_stage_model.transformer.")
_CLIP_2: Final = TextEncoder("text_encoder", "clip-h", "CLIPTextModel", "cond_stage_model.model.", "!")
_CLIP_XL: Final = (
    TextEncoder("text_encoder", "clip-l", "CLIPTextModel", "conditioner.embedders.0.transformer."),
    TextEncoder("text_encoder_2", "clip-g", "CLIPTextModelWithProjection", "conditioner.embedders.1.model.", "!"),
)
_CLIP_REFINER: Final = TextEncoder(
    "text_encoder_2", "clip-g", "CLIPTextModelWithProjection", "conditioner.embedders.0.model.", "!"
)
_L, _G, _T5 = (f"text_encoders.{each}.transformer." for each in ("clip_l", "clip_g", "t5xxl"))
_TEXT_3: Final = (
    TextEncoder("text_encoder", "clip-l", "CLIPTextModelWithProjection", _L, unprojected=True),
    TextEncoder("text_encoder_2", "clip-g", "CLIPTextModelWithProjection", _G, "!"),
    TextEncoder("text_encoder_3", "t5-xxl", "T5EncoderModel", _T5, None, required=False),
)
_TEXT_FLUX: Final = (
    TextEncoder("text_encoder", "clip-l", "CLIPTextModel", _L),
    TextEncoder("text_encoder_2", "t5-xxl", "T5EncoderModel", _T5, None),
)
_V_SPREAD: Final = "output_blocks.11.1.transformer_blocks.0.norm1.bias"


def _unet_1(channels: int, suffix: str, name: str) -> Family:
    return Family(
        name, (_channels(channels), _TEXT_768), f"StableDiffusion{suffix}Pipeline",
        ("unet", "UNet2DConditionModel", "unet-sd1"), "vae-sd", (_CLIP_1,), "scheduler-sd",
        lacks=(_VIDEO, _DISTILLED), network_options={"in_channels": channels},
    )  # fmt: skip


def _unet_2(channels: int, suffix: str, name: str, velocity: str | None = None) -> Family:
    return Family(
        name, (_channels(channels), _TEXT_1024), f"StableDiffusion{suffix}Pipeline",
        ("unet", "UNet2DConditionModel", "unet-sd2"), "vae-sd", (_CLIP_2,), "scheduler-sd",
        lacks=(_VIDEO, _LABELLED), network_options={"in_channels": channels}, velocity=velocity,
    )  # fmt: skip


def _unet_xl(channels: int, suffix: str, name: str) -> Family:
    return Family(
        name, (_channels(channels), _TEXT_2048), f"StableDiffusionXL{suffix}Pipeline",
        ("unet", "UNet2DConditionModel", "unet-xl"), "vae-xl", _CLIP_XL, "scheduler-xl",
        network_options={"in_channels": channels}, options={"add_watermarker": False},
    )  # fmt: skip


def _transformer_3(name: str, signs: tuple[Sign, ...], config: str) -> Family:
    network = ("transformer", "SD3Transformer2DModel", config)
    return Family(name, signs, "StableDiffusion3Pipeline", network, "vae-sd3", _TEXT_3, "scheduler-sd3")


def _transformer_flux(name: str, kind: str, suffix: str, *signs: Sign, lacks: tuple[str, ...] = ()) -> Family:
    network = ("transformer", "FluxTransformer2DModel", f"transformer-flux-{kind}")
    scheduler = "scheduler-flux-schnell" if kind == "schnell" else "scheduler-flux-dev"
    begin = Sign("double_blocks.0.img_attn.norm.key_norm.scale")
    others = ("single_stream_modulation.lin.weight", "distilled_guidance_layer.in_proj.bias", *lacks)
    return Family(
        name, (begin, *signs), f"Flux{suffix}Pipeline", network, "vae-flux", _TEXT_FLUX, scheduler, lacks=others
    )


_GUIDANCE: Final = Sign("guidance_in.in_layer.weight")

#: The first one whose signs are all on a file is its family.
FAMILIES: Final = (
    _unet_1(4, "", "Stable Diffusion 1.x"),
    _unet_1(8, "InstructPix2Pix", "InstructPix2Pix"),
    _unet_1(9, "Inpaint", "Stable Diffusion 1.x for inpainting"),
    _unet_2(4, "", "Stable Diffusion 2.x", _V_SPREAD),
    _unet_2(9, "Inpaint", "Stable Diffusion 2.x for inpainting"),
    _unet_xl(4, "", "Stable Diffusion XL"),
    _unet_xl(8, "InstructPix2Pix", "Stable Diffusion XL for editing"),
    _unet_xl(9, "Inpaint", "Stable Diffusion XL for inpainting"),
    Family(
        "the refiner of Stable Diffusion XL", (_channels(4), _TEXT_1280), "StableDiffusionXLImg2ImgPipeline",
        ("unet", "UNet2DConditionModel", "unet-xl-refiner"), "vae-xl", (_CLIP_REFINER,), "scheduler-xl",
        options={"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False, "add_watermarker": False},
    ),
    _transformer_3(
        "Stable Diffusion 3.5 large", (Sign("joint_blocks.37.x_block.mlp.fc1.weight"),), "transformer-sd35-large"
    ),
    _transformer_3(
        "Stable Diffusion 3.5 medium", (Sign("joint_blocks.0.x_block.attn2.qkv.weight"),), "transformer-sd35-medium"
    ),
    _transformer_3(
        "Stable Diffusion 3 medium", (Sign("joint_blocks.23.x_block.mlp.fc1.weight"),), "transformer-sd3"
    ),
    _transformer_flux("FLUX.1 dev", "dev", "", _GUIDANCE, Sign("img_in.weight", 1, 64)),
    _transformer_flux("FLUX.1 Fill", "fill", "Fill", _GUIDANCE, Sign("img_in.weight", 1, 384)),
    _transformer_flux(
        "FLUX.1 schnell", "schnell", "", Sign("img_in.weight", 1, 64), lacks=(_GUIDANCE.tensor,)
    ),
)  # fmt: skip


def name_by_text_width(width: int) -> str | None:
    """The first family whose UNet reads text of so many numbers a word."""
    signs = ((family.name, sign) for family in FAMILIES for sign in family.signs)
    return next((name for name, sign in signs if ".attn2." in sign.tensor and sign.size == width), None)


@dataclass(frozen=True)
class Edition:
    """What a file's name tells and its tensors don't: weights of the same shapes that want to be run in another way."""

    pattern: str
    families: str
    """What the family's name begins with."""
    pipeline: str | None = None
    scheduler: str | None = None
    scheduler_options: dict[str, object] = field(default_factory=dict)


_TRAILING: Final[dict[str, object]] = {"timestep_spacing": "trailing"}

EDITIONS: Final = (
    Edition(r"kontext", "FLUX.1 dev", pipeline="FluxKontextPipeline"),
    Edition(r"lcm(?![a-z])", "Stable Diffusion", scheduler="LCMScheduler"),
    Edition(
        r"lightning|hyper[-_ ]?(sd|xl)|hyper(?![a-z])",
        "Stable Diffusion XL",
        scheduler="EulerDiscreteScheduler",
        scheduler_options=_TRAILING,
    ),
    Edition(r"turbo", "Stable Diffusion XL", scheduler="EulerAncestralDiscreteScheduler", scheduler_options=_TRAILING),
    Edition(r"turbo", "Stable Diffusion 2", scheduler="EulerDiscreteScheduler", scheduler_options=_TRAILING),
)
