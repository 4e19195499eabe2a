"""A Celery application whose module has used a client before its workers are forked."""

import os

import celery

from stablediffusiond.client import Client

app = celery.Celery("tasks", broker=os.environ["CELERY_BROKER"], backend="rpc://")
client = Client()
job = client.submit(prompt="of the parent")


@app.task(name="draw")  # type: ignore[untyped-decorator]
def draw(prompt: str) -> tuple[int, str]:
    [_] = client.draw(prompt=prompt, timeout_seconds=60)
    return os.getpid(), client.queue
