"""What is drawn with: the model, and the files that requests name."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.settings.section import Section

CompileMode = Literal["off", "regions", "default", "max"]
Quantize = Literal["off", "fp8", "int8", "nf4"]
VaeTiling = Literal["auto", "on", "off"]


class ModelSettings(Section):
    """What is drawn with."""

    name: str = "doodle"
    """doodle (built in), a .safetensors or .gguf file, a folder in diffusers' layout, or a hub id (docs/models.md)."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """auto (cuda if there is one, else mps, else cpu), cuda, cuda:1, mps or cpu."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """auto: on a GPU as models are made to be run, float16 for a UNet and bfloat16 for a transformer; else float32."""
    steps: PositiveInt | None = None
    """Denoising steps where a request names none; unset: the model's own, as far as that is known."""
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    """Guidance where a request names none; unset: the model's own, as far as that is known."""
    transformer: Path | None = None
    """A .gguf or .safetensors file of the transformer in place of that of a folder or a hub id (docs/models.md)."""
    vae: str | None = None
    """A VAE in place of the model's own: a .safetensors file, a folder in the diffusers layout, or a hub id."""
    text_encoders: Path | None = None
    """A folder of the text encoders that a single file lacks, as diffusers or ComfyUI has them (docs/models.md)."""
    quantize: Quantize = "off"
    """fp8, int8: weights in eight bits, half the memory; nf4: in four; int8 and nf4 need a package (docs/models.md)."""
    offload: Literal["off", "group"] = "off"
    """group: weights lie in the machine's memory and come onto the GPU layer by layer; little memory, slower."""
    attention: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "auto"
    """auto (PyTorch's), or an attention backend of diffusers that is installed, as "flash" (docs/models.md)."""
    vae_tiling: VaeTiling = "auto"
    """auto: the VAE works in tiles on large pictures (over 1536 x 1536), and where memory ends; on; or off."""
    refiner: str | None = None
    """A second model that makes the last steps, as Stable Diffusion XL has one; named as the first is."""
    refiner_switch: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """The part of the noise that the first model takes away before the refiner begins."""
    scheduler: str | None = None
    """The sampler of requests that name none, as they would name it: "DPM++ 2M Karras"; default: the model's own."""
    loras: tuple[str, ...] = ()
    """LoRAs of [folders] loras that are part of the model for all requests: "lcm", or "lcm:0.8" for less of it."""
    prediction_type: Literal["epsilon", "v_prediction"] | None = None
    """What the network predicts, where the model does not say, or says it wrong."""
    allow_pickle: bool = False
    """Whether weights in .ckpt, .bin and .pt files are opened. A pickle can run code: only for sources you trust."""

    @field_validator("scheduler")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        try:
            samplers.find(name or "")
        except InvalidRequest as error:
            raise ValueError(str(error)) from None
        return name


class FolderSettings(Section):
    """Files that requests name: each by its name without folder and suffix."""

    models: Path | None = None
    """More models: .safetensors and .gguf files, and folders in the layout of diffusers (docs/models.md)."""
    loras: Path | None = None
    """LoRAs, .safetensors files; those in folders below it, too (docs/models.md)."""
    lora_bytes: PositiveInt = 1_073_741_824
    """Memory of the device for LoRAs that stay there after their use."""
    embeddings: Path | None = None
    """Textual inversion: .safetensors, .pt or .bin files, which are words of prompts (docs/models.md)."""
    controlnets: Path | None = None
    """ControlNets: .safetensors files, or folders in the layout of diffusers (docs/models.md)."""
    controlnet_bytes: PositiveInt = 4_294_967_296
    """Memory of the device for ControlNets that stay there after their use."""
    ip_adapters: Path | None = None
    """IP-Adapters: .safetensors files, with the folders of their image encoders beside them (docs/models.md)."""
    ip_adapter_bytes: PositiveInt = 2_147_483_648
    """Memory of the device for IP-Adapters that stay there after their use, and as much for their image encoders."""
    vaes: Path | None = None
    """VAEs: .safetensors files, or folders in the layout of diffusers (docs/models.md)."""
    vae_bytes: PositiveInt = 1_073_741_824
    """Memory of the device for VAEs that stay there after their use, beside the model's own."""
    upscalers: Path | None = None
    """Networks that enlarge pictures: ESRGAN and the like, .safetensors, .pth or .pt files (docs/models.md)."""
    upscaler_bytes: PositiveInt = 1_073_741_824
    """Memory of the device for upscalers that stay there after their use."""
