"""What a user of a task queue builds for many models: one queue in order of arrival, the last models in each worker.

    python -m benchmarks.fifo_worker URL QUEUE ROOM LOAD_SECONDS

Started by ``trace_daemons.py``. Each model that a job names is a diffusers pipeline of the built-in one; one that is
not among the last ROOM is loaded from the disk, which takes at least LOAD_SECONDS. A job is acked when its reply is
published.
"""

import io
import json
import sys
import time
from collections import OrderedDict

import pika
import torch

from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.settings import ModelSettings


def main(url: str, queue: str, room: int, load_seconds: float) -> None:
    load_pipeline(ModelSettings())("", num_inference_steps=1)
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    channel.basic_qos(prefetch_count=1)
    models: OrderedDict[str, Pipeline] = OrderedDict()
    for method, properties, body in channel.consume(queue):
        fields = json.loads(body)
        loaded = fields["model"] not in models
        if loaded:
            if len(models) == room:
                models.popitem(last=False)
            began = time.monotonic()
            models[fields["model"]] = load_pipeline(ModelSettings())
            time.sleep(max(0.0, load_seconds - (time.monotonic() - began)))
        models.move_to_end(fields["model"])
        pipeline = models[fields["model"]]
        for number in range(fields["count"]):
            generator = torch.Generator("cpu").manual_seed(number)
            size = {"width": fields["width"], "height": fields["height"]}
            made = pipeline(fields["prompt"], num_inference_steps=fields["steps"], generator=generator, **size)
            made.images[0].save(io.BytesIO(), "PNG")
        said = pika.BasicProperties(correlation_id=properties.message_id, type="done", headers={"loaded": int(loaded)})
        channel.basic_publish("", properties.reply_to or "", b"{}", said)
        channel.basic_ack(method.delivery_tag or 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
