"""The denoiser's call: filled up where it is compiled, and never compiled in traffic."""

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from stablediffusiond.engine.call import describe, make_together
from stablediffusiond.engine.coalescing import PipelineRun, answer, hold
from stablediffusiond.engine.forward import Forward
from stablediffusiond.settings import CompileMode
from tests.engine.tiny_models import tiny_pipeline

OWN, WIDE = (4, 8, 8), (4, 8, 16)
Arguments = dict[str, Any]
torch_compile = torch.compile

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


Seen = list[int]


@contextlib.contextmanager
def without_a_code_generator() -> Iterator[Seen]:
    """Has dynamo run what it compiles as it is; gives the numbers of rows of the compiled calls that are made."""
    seen: Seen = []

    def backend(graph: Any, _: object) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            seen.append(max(len(each) for each in arguments if isinstance(each, torch.Tensor) and each.ndim == 3))
            return graph.forward(*arguments)

        return run

    def compile_simply(function: Any, **options: Any) -> Any:
        return torch_compile(function, backend=backend, dynamic=options["dynamic"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", compile_simply)
        yield seen
    torch._dynamo.reset()


def compiled_for(module: Any, mode: CompileMode, *row_counts: int) -> Forward:
    forward = Forward(module, CPU, mode)
    forward.measure_by(describe(module, forward, some(2)))
    for rows in row_counts:
        assert forward.seconds(rows) > 0
    return forward


@pytest.fixture(scope="module")
def compiled_once(pipeline: Any) -> Iterator[tuple[Forward, Seen]]:
    """A forward compiled for 1, 2 and 4 rows, and the rows it was called with."""
    with without_a_code_generator() as seen, torch.inference_mode():
        yield compiled_for(pipeline.unet, "default", 1, 2, 4), seen


@pytest.fixture
def compiled(compiled_once: tuple[Forward, Seen]) -> Iterator[tuple[Forward, Seen]]:
    """That forward, before its first call; compiling takes too long to do it for each test."""
    forward, seen = compiled_once
    seen.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield forward, seen


def test_more_rows_than_fit_make_more_calls_and_the_same_result(pipeline: Any) -> None:
    call = describe(pipeline.unet, Forward(pipeline.unet, CPU), some(5))
    [in_parts], [at_once] = make_together([call], 2), make_together([call], 5)
    assert torch.allclose(in_parts[0], at_once[0], rtol=1e-4, atol=1e-5)


def test_a_batch_is_filled_up_to_what_was_compiled(pipeline: Any, compiled: tuple[Forward, Seen]) -> None:
    forward, seen = compiled
    for rows in (1, 2, 3, 4):
        [expected] = Forward(pipeline.unet, CPU)(**some(rows))
        [answer] = forward(**some(rows))
        assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5)
    assert seen == [1, 2, 4, 4]


@pytest.mark.parametrize(("rows", "latents"), [(5, OWN), (2, WIDE)])
def test_what_was_not_compiled_runs_eagerly(
    compiled: tuple[Forward, Seen], rows: int, latents: tuple[int, ...]
) -> None:
    forward, seen = compiled
    assert forward(**some(rows, latents))[0].shape == (rows, *latents)
    assert seen == []


def test_blocks_that_repeat_are_compiled_in_place_and_only_for_the_calls_that_were_chosen(pipeline: Any) -> None:
    unet = copy.deepcopy(pipeline.unet)
    with without_a_code_generator() as seen:
        forward = compiled_for(unet, "regions", 1, 2, 4)
        with torch._dynamo.config.patch(error_on_recompile=True):
            for rows, latents, compiled_rows in ((1, OWN, {1}), (3, OWN, {4}), (5, OWN, set()), (2, WIDE, set())):
                seen.clear()
                [answer] = forward(**some(rows, latents))
                [expected] = pipeline.unet(**some(rows, latents))
                assert torch.allclose(answer, expected, rtol=1e-4, atol=1e-5)
                assert set(seen) == compiled_rows


def test_a_network_of_which_no_blocks_are_known_to_repeat_is_compiled_whole(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = copy.deepcopy(pipeline.unet)
    monkeypatch.setattr(type(unet), "_repeated_blocks", [])
    with without_a_code_generator() as seen:
        forward = compiled_for(unet, "regions", 2)
        seen.clear()
        forward(**some(2))
        assert seen == [2]


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
def test_a_network_in_half_precision_is_compiled_for_what_it_is_really_given(pipeline: Any) -> None:
    """Its pictures are float32; what goes in is cast."""
    unet = copy.deepcopy(pipeline.unet).to(torch.bfloat16)
    with without_a_code_generator() as seen:
        forward = Forward(unet, CPU, "default")
        hold(unet, function=forward)
        run = PipelineRun(lambda: unet(**some(2)))
        run.start()
        assert run.call is not None
        forward.measure_by(run.call)
        assert forward.seconds(2) > 0
        seen.clear()
        answer([run], 2)
        assert seen == [2]
