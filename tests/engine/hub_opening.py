"""What a process of its own makes of a model's name."""

import json
import time
from pathlib import Path
from typing import Any

from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.settings import ModelSettings


def open_model(name: str, settings: dict[str, Any], answer: Path) -> None:
    """Writes the kind of the pipeline, or the error, as JSON to ``answer``."""
    began = time.monotonic()
    said: dict[str, object]
    try:
        pipeline = load_pipeline(ModelSettings.model_validate({"name": name, "device": "cpu", **settings}))
        said = {"kind": type(pipeline).__name__, "code": 0}
    except StableDiffusiondError as error:
        said = {"error": str(error), "code": error.exit_code}
    answer.write_text(json.dumps({**said, "seconds": time.monotonic() - began}), "utf-8")
