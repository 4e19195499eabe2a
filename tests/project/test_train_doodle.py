"""How the built-in model is made: the data, and every command from the first to the last with a few steps each."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.captions import HELD_OUT_WORDINGS, caption, every_word, held_out_caption
from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.scenes import COLOURS, PLACES, SIZES, SUBJECTS, any_scene
from tools.train_doodle.tokenizer import build_tokenizer

CHECKOUT = Path(__file__).parents[2]


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([96, 128, 192]))
def test_a_drawing_shows_its_ground_at_the_edge_and_its_subject_inside(seed: int, held_out: bool, pixels: int) -> None:
    rng = random.Random(seed)
    scene = any_scene(rng, held_out=held_out)
    assert scene.held_out == held_out
    assert scene.colour != scene.ground
    assert scene.radius <= scene.x <= 1 - scene.radius
    assert scene.radius <= scene.y <= 1 - scene.radius
    picture = np.asarray(draw(scene, rng, pixels)).astype(int)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert np.abs(border - COLOURS[scene.ground]).max() <= 12
    assert (np.abs(picture - COLOURS[scene.ground]).max(axis=2) > 40).sum() > 0.01 * pixels**2


def test_evaluation_sees_combinations_and_wordings_that_training_does_not() -> None:
    rng = random.Random(0)
    trained = [any_scene(rng) for _ in range(3000)]
    evaluated = [any_scene(rng, held_out=True) for _ in range(1000)]
    triples = {(scene.subject, scene.colour, scene.ground) for scene in trained}
    assert not triples & {(scene.subject, scene.colour, scene.ground) for scene in evaluated}
    assert {scene.subject for scene in evaluated} == set(SUBJECTS)
    captions = {caption(scene, rng) for scene in trained}
    assert not captions & {held_out_caption(scene, rng) for scene in evaluated}
    assert len(HELD_OUT_WORDINGS) >= 5


def test_captions_say_what_there_is() -> None:
    rng = random.Random(0)
    words = " ".join(caption(any_scene(rng), rng) for _ in range(5000)).split()
    assert {*SUBJECTS, *COLOURS, *SIZES[1:], *PLACES[1:]} <= {word.strip(",") for word in words}


def test_pictures_are_from_minus_one_to_one() -> None:
    rng = random.Random(0)
    pictures = pixels_of([draw(any_scene(rng), rng) for _ in range(20)])
    assert pictures.shape == (20, 3, 128, 128)
    assert (pictures.min() >= -1, pictures.max() <= 1) == (True, True)


def test_known_words_are_one_token_and_all_others_are_bytes(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(tmp_path)
    assert [word for word in every_word() if len(tokenizer(word).input_ids) != 3] == []
    assert tokenizer("A Red CAT").input_ids == tokenizer("a red cat").input_ids
    unknown = tokenizer("żółw 猫 qwxzy").input_ids
    assert tokenizer.unk_token_id not in unknown[1:-1]
    assert (BUILT_IN / "tokenizer/vocab.json").is_file() or (BUILT_IN / "tokenizer/tokenizer.json").is_file()


#: Each command as ``python -m`` has it, in one process: torch is loaded once. What each says ends with a NUL.
ONE_AFTER_THE_OTHER = """
import json, runpy, sys
for name, *options in json.loads(sys.argv[1]):
    sys.argv = [name, *options]
    runpy.run_module(f"tools.train_doodle.{name}", run_name="__main__", alter_sys=True)
    print(end=chr(0), flush=True)
"""


def run(*commands: list[str]) -> list[str]:
    """What each of ``commands``, a module's name and its options, has said."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ONE_AFTER_THE_OTHER, json.dumps(commands)],
        cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\0")[:-1]


@pytest.mark.timeout(600)
def test_every_command_from_the_first_to_the_last(tmp_path: Path) -> None:
    work, model = ["--work", str(tmp_path / "work")], str(tmp_path / "model")
    again = ["--work", str(tmp_path / "again")]
    on_cpu, two_steps = ["--device", "cpu"], ["--steps", "2", "--batch", "8"]
    printed = run(
        ["autoencoder", *work, *on_cpu, "--small-steps", "2", "--steps", "2", "--decoder-steps", "2"],
        ["latents", *work, *on_cpu, "--count", "64"],
        ["words", *work, *on_cpu, "--steps", "2"],
        ["unet", *work, *on_cpu, *two_steps],
        ["unet", *work, *on_cpu, "--steps", "3", "--batch", "8"],
        ["export", *work, "--output", model],
        ["reopen", *again, "--model", model],
        ["latents", *again, *on_cpu, "--count", "64"],
        ["unet", *again, *on_cpu, *two_steps, "--begin-with", str(tmp_path / "again/unet")],
        ["judge", *work, *on_cpu, "--steps", "2"],
        ["evaluate", *work, *on_cpu, "--model", model, "--prompts", "4", "--each-word", "1", "--steps", "2"],
    )
    assert "goes on at step 2 " in printed[4]
    assert (tmp_path / "model/model_index.json").is_file()
    report = json.loads(printed[-1])
    assert (report["prompts"], report["single words"]) == (4, 14)
    assert set(report) >= {"subject", "colour", "ground", "all three", "single words right"}
