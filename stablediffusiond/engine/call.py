"""A call of a network by one pipeline: what makes two such calls alike, and how several are made as one.

Nearly every argument of a network in diffusers has its rows in the first dimension: latents, timesteps, embeddings,
what a ControlNet adds. Calls whose arguments have the same structure, and differ in nothing but the values of their
rows, can be made as one: the rows behind each other, and each caller gets its own rows of what comes back. This file
knows no family of models. The few arguments that are not like that stand in tables; one that nobody knows makes its
call unlike all others, so that it is made alone: slower, and right.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from stablediffusiond.engine.rows import Answer, Rows, Tree, cut, join, merge, plain, rows_of, tensors_of

#: One number for all rows of a picture; networks take one for each row as well.
NUMBERS: Final = frozenset({"timestep", "t"})
#: Tensors without rows: calls are alike where these have equal values, and then they are passed once.
_WITHOUT_ROWS: Final = frozenset({"txt_ids", "img_ids", "image_rotary_emb"})
#: Lists with an entry for each row.
_LISTS: Final = frozenset({"x", "cap_feats", "img_shapes", "txt_seq_lens"})
#: One for a call, in place of which diffusers takes a list with one for each row.
_ONE_OR_LIST: Final = frozenset({"generator"})


@dataclass(frozen=True, eq=False)
class Call:
    """One call that a pipeline wants to make."""

    module: torch.nn.Module
    function: Callable[..., Answer]
    rows: int
    key: Hashable  #: calls of one function with equal keys may be made as one
    arguments: Mapping[str, Tree]

    def tensor(self, *names: str) -> Tensor | None:
        """The first of the arguments ``names`` that was given, (rows, …)."""
        for name in names:
            if isinstance(value := self.arguments.get(name), Rows) and isinstance(value.values, Tensor):
                return value.values
        return None


def describe(
    module: torch.nn.Module,
    function: Callable[..., Answer],
    arguments: Mapping[str, Any],
    for_each_row: Mapping[str, Any] | None = None,
) -> Call:
    """The call of ``function``, which calls ``module``, with ``arguments`` by name.

    ``function`` is given what stands in ``for_each_row``, too, as lists: with the value once for each row, if it is no
    list already.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    rows = next((len(value) for value in given.values() if isinstance(value, Tensor | list)), 1)
    described = {name: _describe(name, value, rows) for name, value in given.items()}
    for name, value in (for_each_row or {}).items():
        described[name] = "row", Rows(value if isinstance(value, list) else [value] * rows)
    key = tuple((name, part) for name, (part, _) in sorted(described.items()))
    return Call(module, function, rows, key, {name: tree for name, (_, tree) in described.items()})


def make_together(calls: Sequence[Call], rows_at_once: int) -> list[Answer]:
    """The answer to each of ``calls``, which are alike, from one call, or from as many as ``rows_at_once`` needs."""
    total = sum(call.rows for call in calls)
    function = calls[0].function
    merged = {name: merge([call.arguments[name] for call in calls]) for name in calls[0].arguments}
    if total <= rows_at_once:
        answer = function(**plain(merged))
    else:
        parts = [(first, min(first + rows_at_once, total)) for first in range(0, total, rows_at_once)]
        answer = join([function(**plain(cut(merged, first, end))) for first, end in parts], rows_at_once)
    if len(calls) == 1:
        return [answer]
    answers, end = [], 0
    for call in calls:
        first, end = end, end + call.rows
        answers.append(rows_of(answer, first, end, total))
    return answers


def repeated(call: Call, rows: int) -> Call:
    """``call`` with so many rows, its own again and again: for measuring."""
    copies = -(-rows // call.rows)
    arguments = {name: cut(merge([value] * copies), 0, rows) for name, value in call.arguments.items()}
    return Call(call.module, call.function, rows, call.key, arguments)


def beside_the_others(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """``arguments`` with numbers that schedulers keep in host memory brought to the device of the other tensors."""
    others = (tensor for name, value in arguments.items() if name not in NUMBERS for tensor in tensors_of(value))
    if (one := next(others, None)) is None:
        return dict(arguments)
    return {
        # Nobody waits: the host's copy is read before this returns.
        name: value.to(one.device, non_blocking=True) if name in NUMBERS and isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }


def filled_up(call: Call, rows: int) -> dict[str, Any]:
    """The arguments of ``call`` with its last row repeated until there are ``rows``."""
    missing = rows - call.rows
    return {
        name: plain(merge([tree, *[cut(tree, call.rows - 1, call.rows)] * missing]))
        for name, tree in call.arguments.items()
    }


# What has to be equal


def _describe(name: str, value: Any, rows: int) -> tuple[Hashable, Tree]:
    """What of ``value`` has to be equal in calls that are alike; and ``value`` with its rows marked."""
    if name in _LISTS and isinstance(value, list) and len(value) == rows:
        found: tuple[Hashable, Tree] = "list", Rows(value)
    elif name in _ONE_OR_LIST and rows == 1 and not isinstance(value, list):
        found = "one", Rows([value])
    elif name in NUMBERS:
        found = "number", Rows(_one_for_each_row(value, rows))
    elif name in _WITHOUT_ROWS:
        found = _content(value), value
    elif isinstance(value, Tensor):
        found = _describe_tensor(value, rows)
    elif isinstance(value, Mapping):
        inner = {each: _describe(each, part, rows) for each, part in sorted(value.items())}
        key = tuple((each, part) for each, (part, _) in inner.items())
        found = key, {each: tree for each, (_, tree) in inner.items()}
    elif isinstance(value, list | tuple):
        parts = [_describe(name, part, rows) for part in value]
        found = (type(value), *(part for part, _ in parts)), type(value)(tree for _, tree in parts)
    else:
        found = value if isinstance(value, Hashable) else id(value), value
    return found


def _describe_tensor(value: Tensor, rows: int) -> tuple[Hashable, Tree]:
    if value.ndim and len(value) == rows:
        return (value.dtype, *value.shape[1:]), Rows(value)
    if value.ndim and len(value) == 1:
        return (value.dtype, *value.shape[1:]), Rows(value.expand(rows, *value.shape[1:]))
    return id(value), value  # nothing is known of it


def _one_for_each_row(value: Any, rows: int) -> Tensor:
    """A timestep, (), (1,) or (rows,), as (rows,) float32: schedulers differ in the type of theirs."""
    number = torch.as_tensor(value, dtype=torch.float32)
    return number if number.ndim and len(number) == rows else number.reshape(-1)[:1].expand(rows)


#: Tensor -> its content, for as long as the tensor lives.
_contents: Final = WeakTensorKeyDictionary()


def _content(value: Any) -> Hashable:
    """Equal for equal values. Each tensor is read from the device once: a pipeline keeps it from step to step."""
    if isinstance(value, Tensor):
        known: Hashable = _contents.get(value)  # type: ignore[no-untyped-call]
        if known is None:
            known = _contents[value] = (value.dtype, tuple(value.shape), value.float().cpu().numpy().tobytes())
        return known
    if isinstance(value, Mapping):
        return tuple((name, _content(each)) for name, each in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(map(_content, value))
    return value if isinstance(value, Hashable) else id(value)
