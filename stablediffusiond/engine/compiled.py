"""A network's ``forward`` through torch.compile: whole, or only the blocks that repeat in it.

A network of forty blocks that are alike is forty times the same code: who compiles one block has compiled them all, and
the daemon starts in a fraction of the time. https://docs.pytorch.org/tutorials/recipes/regional_compilation.html
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from stablediffusiond.engine.rows import Answer
from stablediffusiond.settings import CompileMode

log = logging.getLogger(__name__)

#: What ``[engine] compile`` means to torch.compile.
_MODES: Final = {"regions": "default", "default": "default", "max": "max-autotune"}
#: Versions of one function that dynamo may keep: a block that repeats has one for each width and each number of rows.
_VERSIONS: Final = 128


class Compiled:
    """``module``, whose ``forward`` nobody has replaced yet, compiled as ``mode`` says."""

    def __init__(self, module: torch.nn.Module, mode: CompileMode) -> None:
        self._call: Callable[..., Answer] = module.forward
        self._regions = mode == "regions" and _compile_blocks(module)
        if not self._regions:
            self._call = torch.compile(module.forward, mode=_MODES[mode], dynamic=False)

    def compile(self, arguments: dict[str, Any]) -> Answer:
        """A call like which later ones will be: what is not compiled for them yet is."""
        with torch._dynamo.config.patch(recompile_limit=_VERSIONS):  # noqa: SLF001
            return self._call(**arguments)

    def __call__(self, **arguments: Any) -> Answer:
        """A call like one that was compiled for. Should dynamo see a difference after all, it runs eagerly."""
        with torch.compiler.set_stance("eager_on_recompile"):
            return self._call(**arguments)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Within it, the module itself runs eagerly, blocks that were compiled in place, too."""
        if not self._regions:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield


def _compile_blocks(module: Any) -> bool:
    """Compile the blocks of ``module`` in place, if diffusers says which they are."""
    try:
        module.compile_repeated_blocks(dynamic=False)
    except (AttributeError, ValueError):
        log.info("no blocks are known to repeat in a %s: it is compiled whole", type(module).__name__)
        return False
    return True
