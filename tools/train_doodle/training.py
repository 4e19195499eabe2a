"""What every training here has in common: a seed for each step, a learning rate for each step, and a checkpoint."""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass(slots=True)
class Run:
    """One training of ``steps`` steps whose whole state lies in ``checkpoint``; started again, it goes on there."""

    checkpoint: Path
    steps: int
    optimizers: list[torch.optim.Optimizer]
    modules: dict[str, torch.nn.Module]
    save_seconds: float = 180.0
    warm_up_steps: int = 100
    decay_share: float = 0.3
    _saved_at: float = field(default_factory=time.monotonic)
    _losses: dict[str, float] = field(default_factory=dict)

    def go(self) -> Iterator[int]:
        """The numbers of the steps that are still to do; saves between them, and when all are done."""
        rates = [group["lr"] for group in self._groups]
        began, first = time.monotonic(), self._restore()
        for step in range(first, self.steps):
            for group, rate in zip(self._groups, rates, strict=True):
                group["lr"] = rate * self._rate(step)
            yield step
            if step % 50 == 0:
                speed = (step + 1 - first) / (time.monotonic() - began)
                losses = " ".join(f"{name} {value:.4f}" for name, value in self._losses.items())
                print(f"step {step}/{self.steps} {losses} {speed:.2f} steps/s", flush=True)
            if time.monotonic() - self._saved_at > self.save_seconds:
                self._save(step + 1)
        self._save(self.steps)

    def update(self, loss: torch.Tensor, parts: dict[str, torch.Tensor]) -> None:
        """One step of the optimizers, with the gradient's norm held to 1."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_([weight for group in self._groups for weight in group["params"]], 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        for name, part in parts.items():
            value = part.item()
            self._losses[name] = self._losses.get(name, value) * 0.98 + value * 0.02

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _rate(self, step: int) -> float:
        """Warm-up, then level, then down to nothing along a line (arXiv:2404.06395, "WSD")."""
        decay_from = self.steps * (1 - self.decay_share)
        up = (step + 1) / self.warm_up_steps
        down = (self.steps - step) / (self.steps - decay_from)
        return min(1.0, up, down)

    def _restore(self) -> int:
        if not self.checkpoint.exists():
            return 0
        state: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state[name])
        for optimizer, known in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)
        self._losses = state["losses"]
        print(f"goes on at step {state['step']} of {self.checkpoint}", flush=True)
        return int(state["step"])

    def _save(self, step: int) -> None:
        state: dict[str, Any] = {name: module.state_dict() for name, module in self.modules.items()}
        state |= {
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": step,
            "losses": self._losses,
        }
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)
        self._saved_at = time.monotonic()


def seeded(name: str, step: int) -> random.Random:
    """Every step draws from a generator of its own, so that a training that was cut off goes on as it would have."""
    torch.manual_seed(random.Random(f"{name}/{step}/torch").getrandbits(63))
    return random.Random(f"{name}/{step}")
