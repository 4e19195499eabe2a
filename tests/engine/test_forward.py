"""The denoiser's call: filled up where it is compiled, and never compiled in traffic."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from stablediffusiond.engine.call import describe, make_together
from stablediffusiond.engine.forward import Forward
from tests.engine.tiny_models import tiny_pipeline

OWN, WIDE = (4, 8, 8), (4, 8, 16)
Arguments = dict[str, Any]

CPU = torch.device("cpu")


def some(rows: int, latents: tuple[int, ...] = OWN) -> Arguments:
    generator = torch.Generator().manual_seed(rows)
    return {
        "sample": torch.randn(rows, *latents, generator=generator),
        "timestep": torch.arange(rows, dtype=torch.float32) * 10,
        "encoder_hidden_states": torch.randn(rows, 77, 32, generator=generator),
        "return_dict": False,
    }


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One whose network nobody has held: what is compiled is the network alone."""
    return tiny_pipeline(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def compiled_once(pipeline: Any) -> Iterator[tuple[Forward, list[int]]]:
    """A forward compiled for 1, 2 and 4 rows, by dynamo without its code generator, and the rows it was called with."""
    seen: list[int] = []
    real = torch.compile

    def compile_and_count(function: Any, **options: Any) -> Callable[..., Any]:
        inner = real(function, backend="eager", dynamic=options["dynamic"])

        def call(**arguments: Any) -> Any:
            seen.append(len(arguments["sample"]))
            return inner(**arguments)  # type: ignore[no-untyped-call]

        return call

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(torch, "compile", compile_and_count)
        forward = Forward(pipeline.unet, CPU, "default")
        forward.measure_by(describe(pipeline.unet, forward, some(2)))
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
    call = describe(pipeline.unet, Forward(pipeline.unet, CPU), some(5))
    [in_parts], [at_once] = make_together([call], 2), make_together([call], 5)
    assert torch.allclose(in_parts[0], at_once[0], rtol=1e-4, atol=1e-5)


def test_a_batch_is_filled_up_to_what_was_compiled(pipeline: Any, compiled: tuple[Forward, list[int]]) -> None:
    forward, seen = compiled
    for rows in (1, 2, 3, 4):
        [expected] = Forward(pipeline.unet, CPU)(**some(rows))
        [answer] = forward(**some(rows))
        assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5)
    assert seen == [1, 2, 4, 4]


@pytest.mark.parametrize(("rows", "latents"), [(5, OWN), (2, WIDE)])
def test_what_was_not_compiled_runs_eagerly(
    compiled: tuple[Forward, list[int]], rows: int, latents: tuple[int, ...]
) -> None:
    forward, seen = compiled
    assert forward(**some(rows, latents))[0].shape == (rows, *latents)
    assert seen == []
