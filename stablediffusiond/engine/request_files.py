"""What was read of the files that a request names, before it is drawn."""

from dataclasses import dataclass
from typing import Any, Final

from stablediffusiond.engine.embeddings import Embedding
from stablediffusiond.engine.ip_adapters.library import ReadIpAdapter
from stablediffusiond.engine.job import Task
from stablediffusiond.engine.loras.by_rows import Adapters
from stablediffusiond.engine.upscaler_files import Upscaler


@dataclass(frozen=True)
class RequestFiles:
    """Of one request."""

    adapters: Adapters = ()
    controlnets: tuple[Any, ...] = ()
    embeddings: tuple[Embedding, ...] = ()
    ip_adapters: tuple[ReadIpAdapter, ...] = ()
    vae: Any = None  #: in place of the model's own
    upscaler: Upscaler | None = None


NO_FILES: Final = RequestFiles()


def files_of(task: Task) -> RequestFiles:
    return task.files if isinstance(task.files, RequestFiles) else NO_FILES
