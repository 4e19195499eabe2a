"""A WSGI application that has used a client before its workers are forked (``gunicorn --preload``)."""

import json
import os
from collections.abc import Callable
from typing import Any

from stablediffusiond.client import Client

client = Client()
job = client.submit(prompt="of the parent")


def application(_: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], Any]) -> list[bytes]:
    [_picture] = client.draw(prompt="of a worker", timeout_seconds=60)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([os.getpid(), client.queue]).encode()]
