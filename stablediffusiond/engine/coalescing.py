"""Pipelines that are suspended where they call a network, so that their calls can be made as one.

A picture is a call of one of diffusers' own pipelines, run as a greenlet: a function that can be left in the middle and
gone on with later, on the same thread. Where the pipeline calls a module that is *held*, it is suspended with the
arguments of that call. Whoever drives it decides when the call is made, together with which others, and resumes each
pipeline with its own rows of the answer. A pipeline that is not resumed waits; one that is cancelled ends where it is.
https://greenlet.readthedocs.io
"""

import functools
import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from greenlet import GreenletExit, getcurrent, greenlet
from torch import Tensor

from stablediffusiond.engine.call import NUMBERS, Call, beside_the_others, describe, make_together
from stablediffusiond.engine.ip_adapters.by_rows import AppliedIpAdapter, taken_out
from stablediffusiond.engine.rows import Answer, map_tensors


class PipelineRun(greenlet):
    """One call of a pipeline. Everything that is done with it has to be done on the thread that made it."""

    def __init__(
        self,
        draw: Callable[[], Any],
        adapters: Hashable = (),
        ip_adapters: Sequence[AppliedIpAdapter] = (),
        *,
        wraps_around: bool = False,
    ) -> None:
        """What it has goes with the rows of its calls, to networks that are held as ``altered``."""
        super().__init__(draw)
        self.adapters = adapters
        self.ip_adapters = ip_adapters
        #: Whether these networks are to see no edges.
        self.wraps_around = wraps_around
        #: Method of an autoencoder -> what answers this run in its place.
        self.in_place_of: dict[str, Callable[..., Answer]] = {}
        #: The call that it is suspended at; None before its start and after its end.
        self.call: Call | None = None
        #: What ``draw`` returned.
        self.result: Any = None
        #: What ended it, if an exception did.
        self.failure: Exception | None = None

    def start(self) -> None:
        """Run until its first call."""
        self._run(self.switch)

    def resume(self, answer: Answer) -> None:
        """Answer its call, and run until the next one or to the end."""
        self._run(self.switch, answer)

    def fail(self, error: Exception) -> None:
        """Raise ``error`` where it is suspended."""
        self._run(self.throw, error)

    def cancel(self) -> None:
        """End it where it is suspended; what it held is free at once."""
        self.call = None
        self.throw(GreenletExit)

    def _run(self, switch: Callable[..., Any], *arguments: Any) -> None:
        self.call = None
        try:
            given = switch(*arguments)
        except Exception as error:  # noqa: BLE001 (whatever diffusers and torch raise ends this picture, and only it)
            self.failure = error
            return
        if self.dead:
            self.result = given
        else:
            self.call = given


def hold(
    module: torch.nn.Module,
    method: str = "forward",
    function: Callable[..., Answer] | None = None,
    *,
    suspend: bool = True,
    altered: bool = False,
) -> None:
    """Suspend each ``PipelineRun`` that calls this method of ``module``; calls from elsewhere are made as they are.

    Pipelines see float32, whatever the weights are: what goes in is cast to the dtype of ``module``, what comes out to
    float32, so that latents, guidance and the arithmetic of the scheduler lose nothing. With ``suspend=False`` calls
    are only cast. ``function``, if given, makes the calls in place of the method; where ``altered`` is set, it is
    told of what a run asks for beside that: ``adapters`` and ``image_prompts``, lists with those of each row, and
    ``wraps_around``.
    """
    original = getattr(module, method)
    signature = inspect.signature(original)
    made_by = _casting(module, function or original)

    @functools.wraps(original)
    def held(*args: Any, **kwargs: Any) -> Answer:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
        arguments |= arguments.pop("kwargs", {})
        here = getcurrent()
        if not isinstance(here, PipelineRun) or here.parent is None:
            return made_by(**arguments)
        if (own := here.in_place_of.get(method)) is not None:
            return own(**arguments)
        if altered and here.wraps_around:
            arguments["wraps_around"] = True
        if not suspend:
            return made_by(**arguments)
        if not altered:
            return here.parent.switch(describe(module, made_by, arguments))
        arguments, seen = taken_out(arguments, here.ip_adapters)
        for_each_row = {"adapters": here.adapters, "image_prompts": seen or ()}
        return here.parent.switch(describe(module, made_by, arguments, for_each_row))

    setattr(module, method, held)


def alike(runs: Iterable[PipelineRun]) -> list[list[PipelineRun]]:
    """Those of ``runs`` that are suspended, by calls that may be made as one."""
    groups: dict[Hashable, list[PipelineRun]] = {}
    for run in runs:
        if run.call is not None:
            groups.setdefault((id(run.call.function), run.call.key), []).append(run)
    return list(groups.values())


def answer(runs: Sequence[PipelineRun], rows_at_once: int) -> None:
    """Make the calls of ``runs``, which are alike, together, and resume each with its rows.

    Whatever the network raises is raised here, and then no run has been resumed. Those with the same adapters lie
    behind each other, so that these are added to them at once.
    """
    runs = _by_adapters(runs)
    answers = make_together([run.call for run in runs if run.call is not None], rows_at_once)
    for run, each in zip(runs, answers, strict=True):
        run.resume(each)


def _by_adapters(runs: Sequence[PipelineRun]) -> Sequence[PipelineRun]:
    groups: dict[Hashable, list[PipelineRun]] = {}
    for run in runs:
        groups.setdefault(run.adapters, []).append(run)
    return runs if len(groups) == 1 else [run for group in groups.values() for run in group]


def _casting(module: torch.nn.Module, function: Callable[..., Answer]) -> Callable[..., Answer]:
    """``function`` for callers that have float32."""
    known: dict[torch.dtype, torch.dtype] = {}

    def call(**arguments: Any) -> Answer:
        first = next((parameter.dtype for parameter in module.parameters()), torch.float32)
        if first not in known:  # diffusers looks through the whole network, which takes milliseconds
            known[first] = getattr(module, "dtype", first)  # those of spandrel have none
        dtype = known[first]
        arguments = beside_the_others(arguments)
        if dtype == torch.float32:
            return function(**arguments)

        def into(value: Tensor) -> Tensor:
            return value.to(dtype) if value.dtype == torch.float32 else value

        given = {name: value if name in NUMBERS else map_tensors(value, into) for name, value in arguments.items()}
        return map_tensors(function(**given), lambda value: value.float() if value.is_floating_point() else value)

    return call
