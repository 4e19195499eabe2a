"""The UNet call: split where memory is short, filled up where it is compiled, and never compiled in traffic."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from stablediffusiond.engine.forward import Forward, Rows

OWN, WIDE = (4, 8, 8), (4, 8, 16)


def some_rows(rows: int, latents: tuple[int, ...] = OWN) -> Rows:
    generator = torch.Generator().manual_seed(rows)
    return Rows(
        torch.randn(rows, *latents, generator=generator),
        torch.arange(rows, dtype=torch.float32) * 10,
        torch.randn(rows, 77, 32, generator=generator),
    )


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def compiled_once(pipeline: Any) -> Iterator[tuple[Forward, list[int]]]:
    """A forward compiled for 1, 2 and 4 rows, by dynamo without its code generator, and the rows it was called with."""
    seen: list[int] = []
    real = torch.compile

    def compile_and_count(unet: Any, **options: Any) -> Callable[..., Any]:
        inner = real(unet, backend="eager", dynamic=options["dynamic"])

        def call(latents: torch.Tensor, *rest: Any, **more: Any) -> Any:
            seen.append(len(latents))
            return inner(latents, *rest, **more)  # type: ignore[no-untyped-call]

        return call

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(torch, "compile", compile_and_count)
        forward = Forward(pipeline, "default")
        for rows in (1, 2, 4):
            assert forward.seconds(rows) > 0
    yield forward, seen
    torch._dynamo.reset()


@pytest.fixture
def compiled(compiled_once: tuple[Forward, list[int]]) -> Iterator[tuple[Forward, list[int]]]:
    """That forward, before its first call; compiling takes too long to do it for each test."""
    forward, seen = compiled_once
    seen.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield forward, seen


def test_more_rows_than_fit_make_more_calls_and_the_same_result(pipeline: Any) -> None:
    forward, rows = Forward(pipeline), some_rows(5)
    assert torch.allclose(forward(rows, 2), forward(rows, 5), rtol=1e-4, atol=1e-5)


def test_a_batch_is_filled_up_to_what_was_compiled(pipeline: Any, compiled: tuple[Forward, list[int]]) -> None:
    forward, seen = compiled
    for rows in (1, 2, 3, 4):
        expected = Forward(pipeline)(some_rows(rows), 100)
        assert torch.allclose(forward(some_rows(rows), 100), expected, rtol=1e-4, atol=1e-5)
    assert seen == [1, 2, 4, 4]


@pytest.mark.parametrize(("rows", "latents"), [(5, OWN), (2, WIDE)])
def test_what_was_not_compiled_runs_eagerly(
    compiled: tuple[Forward, list[int]], rows: int, latents: tuple[int, ...]
) -> None:
    forward, seen = compiled
    assert forward(some_rows(rows, latents), 100).shape == (rows, *latents)
    assert seen == []
