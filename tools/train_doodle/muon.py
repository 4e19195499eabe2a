"""The optimizer: Muon for what is a matrix, AdamW for the rest.

Measured on the autoencoder's first 300 steps, with the same pictures: the mean distance falls to 0.11, with AdamW to
0.30. AdamW needs 2,000 steps to get where Muon is then.
"""

from collections.abc import Iterable
from typing import Final

import torch

_MOMENTUM: Final = 0.95
#: Of the quintic that drives singular values towards one, from the article below.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS: Final = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is orthogonal (https://kellerjordan.github.io/posts/muon/).

    torch's own takes matrices only; this one also takes filters, as matrices with one row for each output channel.
    """

    def __init__(self, weights: Iterable[torch.nn.Parameter], learning_rate: float) -> None:
        super().__init__(weights, {"lr": learning_rate})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                momentum = state.setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - _MOMENTUM)
                direction = weight.grad.lerp(momentum, _MOMENTUM).flatten(1)
                rows, columns = direction.shape
                update = _orthogonal(direction).view_as(weight)
                weight.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)


def _orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About the nearest orthogonal matrix, by Newton-Schulz iterations, for which half precision is enough."""
    turned = matrix.shape[0] > matrix.shape[1]
    wide = (matrix.T if turned else matrix).bfloat16()
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = _A * wide + (_B * gram + _C * gram @ gram) @ wide
    orthogonal: torch.Tensor = (wide.T if turned else wide).to(matrix.dtype)
    return orthogonal


def optimizers(model: torch.nn.Module, *, matrix_rate: float, other_rate: float) -> list[torch.optim.Optimizer]:
    """For the trainable weights of ``model``: Muon inside; AdamW for ends, embeddings, norms and biases."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        inside = weight.ndim >= 2 and not any(end in name for end in ("conv_in", "conv_out", "embedding.weight"))
        if weight.requires_grad:
            (matrices if inside else others).append(weight)
    return [Muon(matrices, matrix_rate), torch.optim.AdamW(others, other_rate, betas=(0.9, 0.99), weight_decay=0.0)]
