"""``info`` of A1111's answers: how the pictures were drawn, as JSON in a text."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from stablediffusiond.errors import JobError
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.files import StoredFile
from stablediffusiond.gateway.store.records import StoredImage
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.replies import ImageFacts


async def info(context: Context, jobs: Sequence[Job]) -> str:
    """Of jobs that have ended, with the ``parameters`` of each picture's file."""
    pairs = [(job, image) for job in jobs for _, image in sorted(job.images.items())]
    texts = [await _parameters(context.jobs.file(job.id, image)) for job, image in pairs]
    return json.dumps(_facts(jobs[0], [image for _, image in pairs], texts), ensure_ascii=False)


async def _parameters(file: StoredFile) -> str:
    """A1111's text in a picture's file; empty where it was not asked for."""
    # Pillow is loaded by the first client of A1111's, and not by the others.
    from stablediffusiond.pictures import metadata  # noqa: PLC0415

    try:
        return (await asyncio.to_thread(metadata.read, await file.read() or b"")).parameters
    except JobError:
        return ""


def _facts(job: Job, images: list[StoredImage], texts: list[str]) -> dict[str, Any]:
    if not images:
        return {"prompt": job.record.request.get("prompt", ""), "all_seeds": [], "infotexts": []}
    all_facts = [image.facts for image in images]
    first = all_facts[0]
    return {
        "prompt": first.prompt,
        "all_prompts": [facts.prompt for facts in all_facts],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [facts.negative_prompt for facts in all_facts],
        "seed": first.seed,
        "all_seeds": [facts.seed for facts in all_facts],
        "subseed": _subseed(first),
        "all_subseeds": [_subseed(facts) for facts in all_facts],
        "subseed_strength": first.subseed_strength or 0,
        "width": first.first_width or first.width,
        "height": first.first_height or first.height,
        "sampler_name": first.sampler,
        "cfg_scale": first.guidance_scale,
        "steps": first.steps,
        "batch_size": job.record.count,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": file_name(first.model),
        "sd_model_hash": None,
        "sd_vae_name": first.vae,
        "sd_vae_hash": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": first.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": texts,
        "styles": [],
        "job_timestamp": job.record.created_at.strftime("%Y%m%d%H%M%S"),
        "clip_skip": first.clip_skip or 1,
        "is_using_inpainting_conditioning": False,
        "version": "stablediffusiond",
    }


def _subseed(facts: ImageFacts) -> int | str:
    return facts.seed if facts.subseed is None else facts.subseed
