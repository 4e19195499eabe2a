"""What many would build instead: a Celery worker around the diffusers pipeline, acked late, one job at a time.

Started by throughput.py with the broker in ``$BROKER`` and the model in ``$MODEL``.
"""

import base64
import io
import os
from typing import Any

import torch
from celery import Celery
from celery.signals import worker_process_init, worker_ready

from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.settings import ModelSettings

app = Celery("drawing", broker=os.environ["BROKER"], backend="rpc://")
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
_pipeline: list[Any] = []


def pipeline() -> Any:
    if not _pipeline:
        _pipeline.append(load_pipeline(ModelSettings(name=os.environ["MODEL"])))
    return _pipeline[0]


@worker_process_init.connect  # type: ignore[untyped-decorator]
@worker_ready.connect  # type: ignore[untyped-decorator]
def warm_up(**_: object) -> None:
    pipeline()("", num_inference_steps=1)


@app.task(name="draw")  # type: ignore[untyped-decorator]
def draw(fields: dict[str, Any]) -> str:
    """The picture as PNG, in base64: Celery's results are JSON."""
    generator = torch.Generator("cpu").manual_seed(fields["seed"])
    made = pipeline()(fields["prompt"], num_inference_steps=fields["steps"], guidance_scale=7.5, generator=generator)
    out = io.BytesIO()
    made.images[0].save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
