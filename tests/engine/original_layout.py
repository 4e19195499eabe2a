"""Models written as the original programs name their tensors: what diffusers' converters read, the other way round."""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

State = dict[str, Tensor]

_RESNET: Final = {
    "norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "norm2.": "out_layers.0.", "conv2.": "out_layers.3.",
    "time_emb_proj.": "emb_layers.1.", "conv_shortcut.": "skip_connection.",
}  # fmt: skip
_UNET: Final = {
    "time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.",
    "conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2.",
    "add_embedding.linear_1.": "label_emb.0.0.", "add_embedding.linear_2.": "label_emb.0.2.",
    "mid_block.resnets.0.": "middle_block.0.", "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}  # fmt: skip


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new) if old in name else name
    return name


def unet(model: Any, prefix: str = "model.diffusion_model.") -> State:
    layers = model.config.layers_per_block

    def place(found: re.Match[str]) -> str:
        side, block, kind, layer, rest = found.groups()
        per_block = layers + 1
        if side == "down":
            at = 1 + int(block) * per_block + int(layer)
            if kind == "downsamplers":
                return f"input_blocks.{1 + int(block) * per_block + layers}.0.op.{rest.removeprefix('conv.')}"
            return f"input_blocks.{at}.{'0' if kind == 'resnets' else '1'}.{rest}"
        if kind == "upsamplers":
            attends = hasattr(model.up_blocks[int(block)], "attentions")
            return f"output_blocks.{int(block) * per_block + layers}.{'2' if attends else '1'}.{rest}"
        return f"output_blocks.{int(block) * per_block + int(layer)}.{'0' if kind == 'resnets' else '1'}.{rest}"

    state = {}
    for name, tensor in model.state_dict().items():
        whole = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.*)$", place, name)
        whole = _renamed(whole, {old: new for old, new in _UNET.items() if whole.startswith(old)})
        resnet = re.match(r"^(input_blocks\.\d+\.0|output_blocks\.\d+\.0|middle_block\.[02])\.(.*)$", whole)
        if resnet:
            whole = f"{resnet[1]}.{_renamed(resnet[2], _RESNET)}"
        state[prefix + whole] = tensor
    return state


def vae(model: Any, prefix: str = "first_stage_model.") -> State:
    blocks = len(model.config.block_out_channels)
    attention = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
    state = {}
    for name, tensor in model.state_dict().items():
        whole = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", name)
        whole = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", whole)
        whole = re.sub(
            r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda at: f"up.{blocks - 1 - int(at[1])}.block.{at[2]}", whole
        )
        whole = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda at: f"up.{blocks - 1 - int(at[1])}.upsample", whole)
        whole = re.sub(r"mid_block\.resnets\.(\d)", lambda at: f"mid.block_{int(at[1]) + 1}", whole)
        whole = whole.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0." in whole:
            whole = _renamed(whole.replace("mid_block.attentions.0.", "mid.attn_1."), attention)
            tensor = tensor[:, :, None, None] if tensor.ndim == 2 else tensor  # noqa: PLW2901
        state[prefix + whole] = tensor
    return state


def transformers_layout(model: Any, prefix: str) -> State:
    """As Hugging Face writes them, whatever this version of transformers calls them."""
    wrapped = "" if type(model).__name__.startswith("T5") else "text_model."
    names = {
        name: name if name.startswith("text_projection") else wrapped + name.removeprefix("text_model.")
        for name in model.state_dict()
    }
    return {prefix + names[name]: tensor for name, tensor in model.state_dict().items()}


def open_clip(model: Any, prefix: str) -> State:
    given = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    state = {
        prefix + "positional_embedding": given["embeddings.position_embedding.weight"],
        prefix + "token_embedding.weight": given["embeddings.token_embedding.weight"],
        prefix + "ln_final.weight": given["final_layer_norm.weight"],
        prefix + "ln_final.bias": given["final_layer_norm.bias"],
        prefix + "logit_scale": torch.tensor(4.6),
    }
    if "text_projection.weight" in given:
        state[prefix + "text_projection"] = given["text_projection.weight"].T.contiguous()
    table = {
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }  # fmt: skip
    for name, tensor in given.items():
        if not (found := re.match(r"encoder\.layers\.(\d+)\.(.*)", name)) or re.search(r"\.[qkv]_proj", name):
            continue
        state[f"{prefix}transformer.resblocks.{found[1]}.{_renamed(found[2], table)}"] = tensor
    for layer in range(model.config.num_hidden_layers):
        for kind in ("weight", "bias"):
            three = [given[f"encoder.layers.{layer}.self_attn.{each}_proj.{kind}"] for each in "qkv"]
            state[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(three)
    return state


def _swapped(tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


_JOINT: Final = {
    "attn.norm_q.": "x_block.attn.ln_q.", "attn.norm_k.": "x_block.attn.ln_k.",
    "attn.norm_added_q.": "context_block.attn.ln_q.", "attn.norm_added_k.": "context_block.attn.ln_k.",
    "attn2.norm_q.": "x_block.attn2.ln_q.", "attn2.norm_k.": "x_block.attn2.ln_k.",
    "attn.to_out.0.": "x_block.attn.proj.", "attn.to_add_out.": "context_block.attn.proj.",
    "attn2.to_out.0.": "x_block.attn2.proj.", "norm1_context.linear.": "context_block.adaLN_modulation.1.",
    "norm1.linear.": "x_block.adaLN_modulation.1.", "ff.net.0.proj.": "x_block.mlp.fc1.",
    "ff.net.2.": "x_block.mlp.fc2.", "ff_context.net.0.proj.": "context_block.mlp.fc1.",
    "ff_context.net.2.": "context_block.mlp.fc2.",
}  # fmt: skip
_AROUND_3: Final = {
    "pos_embed.pos_embed": "pos_embed", "pos_embed.proj.": "x_embedder.proj.",
    "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.",
    "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.",
    "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.",
    "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.", "proj_out.": "final_layer.linear.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
}  # fmt: skip


def transformer_3(model: Any, prefix: str = "model.diffusion_model.") -> State:
    given, state = model.state_dict(), {}
    last = model.config.num_layers - 1
    for name, tensor in given.items():
        found = re.match(r"transformer_blocks\.(\d+)\.(.*)", name)
        if not found:
            around = {old: new for old, new in _AROUND_3.items() if name.startswith(old)}
            state[_renamed(name, around)] = _swapped(tensor) if name.startswith("norm_out") else tensor
        elif not re.search(r"\.(to_[qkv]|add_[qkv]_proj)\.", name):
            turned = int(found[1]) == last and found[2].startswith("norm1_context")
            one = next((old, new) for old, new in _JOINT.items() if found[2].startswith(old))
            state[f"joint_blocks.{found[1]}.{found[2].replace(*one)}"] = _swapped(tensor) if turned else tensor
    for layer in range(last + 1):
        parts = (
            ("x_block.attn", "attn.to_{}"),
            ("context_block.attn", "attn.add_{}_proj"),
            ("x_block.attn2", "attn2.to_{}"),
        )
        for new, old in parts:
            for kind in ("weight", "bias"):
                names = [f"transformer_blocks.{layer}.{old.format(each)}.{kind}" for each in "qkv"]
                if names[0] in given:
                    state[f"joint_blocks.{layer}.{new}.qkv.{kind}"] = torch.cat([given[each] for each in names])
    return {prefix + name: tensor for name, tensor in state.items()}


_AROUND_FLUX: Final = {
    "time_text_embed.timestep_embedder.linear_1.": "time_in.in_layer.",
    "time_text_embed.timestep_embedder.linear_2.": "time_in.out_layer.",
    "time_text_embed.text_embedder.linear_1.": "vector_in.in_layer.",
    "time_text_embed.text_embedder.linear_2.": "vector_in.out_layer.",
    "time_text_embed.guidance_embedder.linear_1.": "guidance_in.in_layer.",
    "time_text_embed.guidance_embedder.linear_2.": "guidance_in.out_layer.",
    "context_embedder.": "txt_in.", "x_embedder.": "img_in.", "proj_out.": "final_layer.linear.",
    "norm_out.linear.": "final_layer.adaLN_modulation.1.",
}  # fmt: skip
_DOUBLE: Final = {
    "norm1_context.linear.": "txt_mod.lin.", "norm1.linear.": "img_mod.lin.",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale", "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "attn.to_out.0.": "img_attn.proj.", "attn.to_add_out.": "txt_attn.proj.", "ff.net.0.proj.": "img_mlp.0.",
    "ff.net.2.": "img_mlp.2.", "ff_context.net.0.proj.": "txt_mlp.0.", "ff_context.net.2.": "txt_mlp.2.",
}  # fmt: skip
_SINGLE: Final = {
    "norm.linear.": "modulation.lin.", "proj_out.": "linear2.", "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale",
}  # fmt: skip


def flux(model: Any, prefix: str = "model.diffusion_model.") -> State:
    given, state = model.state_dict(), {}
    for name, tensor in given.items():
        found = re.match(r"(single_)?transformer_blocks\.(\d+)\.(.*)", name)
        if not found:
            around = {old: new for old, new in _AROUND_FLUX.items() if name.startswith(old)}
            state[_renamed(name, around)] = _swapped(tensor) if name.startswith("norm_out") else tensor
        elif not re.search(r"\.(to_[qkv]|add_[qkv]_proj|proj_mlp)\.", name):
            table, kind = (_SINGLE, "single") if found[1] else (_DOUBLE, "double")
            one = next((old, new) for old, new in table.items() if found[3].startswith(old))
            state[f"{kind}_blocks.{found[2]}.{found[3].replace(*one)}"] = tensor
    for kind in ("weight", "bias"):
        for layer in range(model.config.num_layers):
            begin = f"transformer_blocks.{layer}.attn."
            state[f"double_blocks.{layer}.img_attn.qkv.{kind}"] = torch.cat(
                [given[f"{begin}to_{e}.{kind}"] for e in "qkv"]
            )
            added = [given[f"{begin}add_{each}_proj.{kind}"] for each in "qkv"]
            state[f"double_blocks.{layer}.txt_attn.qkv.{kind}"] = torch.cat(added)
        for layer in range(model.config.num_single_layers):
            begin = f"single_transformer_blocks.{layer}."
            four = [f"{begin}attn.to_{each}.{kind}" for each in "qkv"] + [f"{begin}proj_mlp.{kind}"]
            state[f"single_blocks.{layer}.linear1.{kind}"] = torch.cat([given[each] for each in four])
    return {prefix + name: tensor for name, tensor in state.items()}
