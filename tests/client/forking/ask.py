"""Has two Celery tasks run at a time, and prints what they return."""

import json
import os

import celery

app = celery.Celery("tasks", broker=os.environ["CELERY_BROKER"], backend="rpc://")
asked = [app.send_task("draw", [f"of a task, {number}"]) for number in range(2)]
print(json.dumps([task.get(timeout=60) for task in asked]))
