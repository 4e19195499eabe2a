"""What the tiny models are made of: tokenizers, text encoders and autoencoders, with random weights."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.engine.tiny_models import byte_tokenizer


def t5_tokenizer() -> Any:
    """Every letter is a token."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def clip(scratch: Path, *, projection: bool = False, width: int = 32) -> tuple[CLIPTokenizer, torch.nn.Module]:
    tokenizer = byte_tokenizer(scratch)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        projection_dim=width, hidden_act="gelu",
    )  # fmt: skip
    return tokenizer, (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5(width: int) -> tuple[Any, torch.nn.Module]:
    tokenizer = t5_tokenizer()
    config = T5Config(vocab_size=len(tokenizer) + 2, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return tokenizer, T5EncoderModel(config)


def vae(channels: int = 4, **config: Any) -> Any:
    vae: Any = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64,
        latent_channels=channels, **config,
    )  # fmt: skip
    return vae


def flow_vae() -> Any:
    return vae(16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False)


def byte_level_tokenizer() -> Any:
    """Every byte is a token, as are the marks of a conversation."""
    words = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    tokenizer.model_max_length = 1024
    return tokenizer


def gemma(width: int) -> tuple[Any, torch.nn.Module]:
    tokenizer = byte_level_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=2048, sliding_window=2048,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return tokenizer, Gemma2Model(config)


def umt5(width: int) -> tuple[Any, torch.nn.Module]:
    tokenizer = t5_tokenizer()
    config = UMT5Config(vocab_size=len(tokenizer) + 2, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return tokenizer, UMT5EncoderModel(config)
