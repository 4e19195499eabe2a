"""Bodies of requests, good and bad."""

import json
from pathlib import Path
from typing import Final

_A1111: Final = Path(__file__).parents[1] / "messages/a1111"


def requests() -> dict[str, bytes]:
    return _json() | _numbers() | _large() | _fields() | _images() | _of_a1111()


def _json() -> dict[str, bytes]:
    """What is JSON, and what is none."""
    deep = 100_000
    return {
        "good": b'{"prompt": "cat", "steps": "20", "seed": -1, "W": 64, "height": 64, "n_iter": 2, "n_samples": 2}',
        "sampler": b'{"prompt": "cat", "sampler_name": "DPM++ 2M", "scheduler": "Karras", "plms": false}',
        "hires": b'{"prompt": "cat", "hires": {"scale": "1.5", "upscaler": "latent", "steps": 5, "strength": 0.4}}',
        "hires fix": b'{"prompt": "cat", "enable_hr": true, "hr_scale": 2, "hr_upscaler": "None", "denoising_strength": 0.5}',
        "upscale": b'{"type": "upscale", "image": "aGVsbG8=", "scale": 4, "upscaler": "x.pth"}',
        "guides": b'{"prompt": "cat", "control": [{"model": "a", "image": "aGVsbG8=", "preprocessor": "canny", "low": 1}], '
        b'"ip_adapter": {"name": "b", "image": "aGVsbG8="}, "vae": "c", "model": "d"}',
        "horde": b'{"prompt": "a ### b", "params": {"karras": true, "sampler_name": "k_lms", "hires_fix": true, "width": 1024, '
        b'"height": 768, "control_type": "canny", "loras": [{"name": "x"}]}, "models": ["y"]}',
        "comfy": b'{"positive": "cat", "cfg": 5, "denoise": 1, "stop_at_clip_layer": -2, "noise_seed": 3, "ckpt_name": "z"}',
        "img2img": b'{"prompt": "cat", "init_images": ["aGVsbG8="], "strength": 0.5}',
        "nothing": b"",
        "no JSON": b"\x89PNG",
        "deep": b"[" * deep + b"]" * deep,
        "deep object": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep, but not too deep to parse": b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
        "deep plms": b'{"prompt": "x", "plms": ' + b"[" * 970 + b"]" * 970 + b"}",
        "many parts": b"[" + b"[]," * 5_000_000 + b"[]]",
        "half a pair": b'{"prompt": "x\\ud83d"}',
        "half a pair as id": b'{"prompt": "x", "id": "\\udc00"}',
        "half a pair as key": b'{"prompt": "x", "\\ud83d": 1}',
        "a whole pair": b'{"prompt": "\\ud83d\\ude00"}',
        "said twice": b'{"prompt": "cat", "prompt": "dog"}',
        "said twice alike": b'{"prompt": "cat", "prompt": "cat"}',
        "NUL": b'{"prompt": "\\u0000", "id": "a\\u0000b"}',
        "booleans": b'{"prompt": "x", "steps": true, "id": false}',
        "UTF-16": '{"prompt": "cat"}'.encode("utf-16"),
        "UTF-32": '{"prompt": "cat"}'.encode("utf-32-be"),
        "a byte order mark": b'\xef\xbb\xbf{"prompt": "cat"}',
    }


def _numbers() -> dict[str, bytes]:
    """What is no number of ours."""
    return {
        "huge number": b'{"prompt": "x", "seed": ' + b"9" * 4000 + b"}",
        "larger than Python reads": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        "huge number as text": json.dumps({"prompt": "x", "count": "9" * 4000}).encode(),
        "huge product": json.dumps({"prompt": "x", "n_iter": 10**4000, "n_samples": 10**4000}).encode(),
        "exponent": b'{"prompt": "x", "guidance_scale": 1e999, "deadline_seconds": 1e308}',
        "NaN": b'{"prompt": "x", "guidance_scale": NaN, "strength": -Infinity}',
    }


def _large() -> dict[str, bytes]:
    """What is larger than it has any reason to be."""
    return {
        "a key of a megabyte": json.dumps({"prompt": "x", "k" * 1_000_000: 1}).encode(),
        "a value of a megabyte": json.dumps(
            {"prompt": "x", "n_iter": "v" * 1_000_000, "plms": "v" * 1_000_000}
        ).encode(),
        "a sampler of a megabyte": json.dumps({"prompt": "x", "sampler": "v" * 1_000_000}).encode(),
        "a type of a megabyte": json.dumps({"prompt": "x", "type": "v" * 1_000_000}).encode(),
    }


def _fields() -> dict[str, bytes]:
    """Seeds, models, marks."""
    return {
        "a mark before a name": b'{"\xef\xbb\xbfprompt": "\\ufeffcat", "prompt": "dog"}',
        "a seed of 64 bits": b'{"prompt": "x", "seed": 18446744073709551615, "count": 16}',
        "a seed as JavaScript has it": b'{"prompt": "x", "seed": 18446744073709552000}',
        "a seed with an exponent": b'{"prompt": "x", "seed": "1e999999999999"}',
        "a seed of a megabyte": json.dumps({"prompt": "x", "seed": "9" * 1_000_000}).encode(),
        "any seed": b'{"prompt": "x", "seed": "Random"}',
        "a model": b'{"prompt": "x", "model": "DOODLE.safetensors [0123abcd]", "models": ["doodle", 2]}',
        "a model of a megabyte": json.dumps({"prompt": "x", "sd_model_checkpoint": "v" * 1_000_000}).encode(),
    }


def _images() -> dict[str, bytes]:
    """Pictures as text."""
    return {
        "no base64": b'{"prompt": "x", "image": "/etc/passwd"}',
        "an address": b'{"prompt": "x", "image": "http://127.0.0.1/a.png"}',
        "a file": b'{"prompt": "x", "image": "file:///etc/passwd"}',
        "base64 without padding": b'{"prompt": "x", "image": "iVBORw0KGgo"}',
        "base64 for URLs": b'{"prompt": "x", "image": "data:image/png;BASE64,iVBORw0KGgo_-A"}',
        "base64 with escapes": json.dumps({"prompt": "x", "image": "data:;base64," + "%2B" * 4_000_000}).encode(),
        "base64 of spaces": json.dumps({"prompt": "x", "image": "A " * 6_000_000}).encode(),
        "quotes": json.dumps({"prompt": "x", "image": "b'" + "\"'" * 1000}).encode(),
    }


def _of_a1111() -> dict[str, bytes]:
    """Bodies of A1111's clients, and what may be made of them."""
    return {
        "deep override_settings": b'{"prompt": "x", "override_settings": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
        "many override_settings": json.dumps(
            {"prompt": "x", "override_settings": {f"save_{n}": n for n in range(20_000)}}
        ).encode(),
        "many scripts": json.dumps(
            {"prompt": "x", "alwayson_scripts": {f"{n}": {"args": [False] * 2} for n in range(10_000)}}
        ).encode(),
        "deep scripts": b'{"prompt": "x", "alwayson_scripts": {"a": {"args": ' + b"[" * 900 + b"]" * 900 + b"}}}",
        **{f"A1111: {file.stem}": file.read_bytes() for file in _A1111.glob("*.json")},
    }
