"""Rows in nested arguments and answers of networks: put behind each other, cut out, and given back.

The first dimension of a tensor is its rows; a few networks take and give lists with an entry for each row in its place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

#: Tensors, ``Rows`` and constants, nested in dicts, lists and tuples as the network takes them.
Tree = Any
#: What a network returns: a tensor, a tuple or list of answers, or an output class of diffusers or transformers.
Answer = Any


@dataclass(frozen=True, eq=False)
class Rows:
    """A value with rows: a tensor (rows, …), or a list with an entry for each."""

    values: Any


def merge(values: Sequence[Tree]) -> Tree:
    """Trees that are alike as one, their rows behind each other."""
    first = values[0]
    if len(values) == 1:
        return first
    if isinstance(first, Rows):
        if isinstance(first.values, list):
            return Rows([each for value in values for each in value.values])
        return Rows(torch.cat([value.values for value in values]))
    if isinstance(first, Mapping):
        return {name: merge([value[name] for value in values]) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(merge(list(each)) for each in zip(*values, strict=True))
    return first


def cut(value: Tree, first: int, end: int) -> Tree:
    """The rows from ``first`` to ``end``."""
    return _map(value, lambda rows: Rows(rows.values[first:end]))


def plain(value: Tree) -> Any:
    """Without the marks, as the network takes it."""
    return _map(value, lambda rows: rows.values)


def rows_of(answer: Answer, first: int, end: int, total: int) -> Answer:
    """The rows from ``first`` to ``end`` of ``total``, in memory of their own: a view would keep all of them alive."""
    if _is_list_of_rows(answer, total):
        return answer[first:end]
    if isinstance(answer, Mapping):
        return type(answer)(**{name: rows_of(each, first, end, total) for name, each in answer.items()})
    if isinstance(answer, list | tuple):
        return type(answer)(rows_of(each, first, end, total) for each in answer)
    return map_tensors(answer, lambda tensor: tensor[first:end].clone())


def join(parts: Sequence[Answer], rows: int) -> Answer:
    """The answers of several calls as that of one; the first call had ``rows`` rows."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if _is_list_of_rows(first, rows):
        return [row for part in parts for row in part]
    if isinstance(first, DiagonalGaussianDistribution):
        return DiagonalGaussianDistribution(torch.cat([part.parameters for part in parts]))
    if isinstance(first, Mapping):
        return type(first)(**{name: join([part[name] for part in parts], rows) for name in first})
    if isinstance(first, list | tuple):
        return type(first)(join(list(each), rows) for each in zip(*parts, strict=True))
    return first


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, DiagonalGaussianDistribution):
        return DiagonalGaussianDistribution(change(value.parameters))
    if isinstance(value, Mapping):  # the outputs of diffusers and transformers are some, too
        return type(value)(**{name: map_tensors(each, change) for name, each in value.items()})
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(each, change) for each in value)
    return value


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of ``value``."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def _map(value: Tree, change: Callable[[Rows], Any]) -> Any:
    if isinstance(value, Rows):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _map(each, change) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map(each, change) for each in value)
    return value


def _is_list_of_rows(answer: Answer, rows: int) -> bool:
    """Whether a network that takes lists of rows gives one back: pictures without a dimension of rows, (C, 1, H, W)."""
    if not isinstance(answer, list) or len(answer) != rows:
        return False
    return all(isinstance(each, Tensor) and each.ndim == 4 and each.shape[1] == 1 for each in answer)
