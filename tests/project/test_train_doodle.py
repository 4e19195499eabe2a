"""How the built-in model is made: the data, and every command from the first to the last with a few steps each."""

import io
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.captions import caption, every_word, held_out_caption
from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.scenes import COLOURS, PLACES, SIZES, SUBJECTS, any_scene
from tools.train_doodle.tokenizer import build_tokenizer
from tools.train_doodle.vocabulary import COLOUR_WORDS, SUBJECT_WORDS
from tools.train_doodle.wordings import HELD_OUT_WORDINGS, filled, held_out_templates, pairs, sentence

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
    assert len(HELD_OUT_WORDINGS) >= 20


def test_pairs_of_phrases_are_held_out_whole() -> None:
    """Whatever stands between the two, and in whatever order."""
    trained, held_out = pairs(held_out=False), pairs(held_out=True)
    assert not set(trained) & set(held_out)
    assert ("the {n} is {c}", "the background is {g}") in held_out
    assert len(set(held_out_templates())) >= 300
    rng = random.Random(0)
    scene = any_scene(rng)
    said = {filled(template, scene, rng) for template in held_out_templates()}
    assert not said & {sentence(scene, rng) for _ in range(20_000)}


def test_a_held_out_template_names_subject_colour_and_ground() -> None:
    rng = random.Random(0)
    scene = any_scene(rng)
    words = {
        "subject": SUBJECT_WORDS[scene.subject],
        "colour": COLOUR_WORDS.get(scene.colour, (scene.colour,)),
        "ground": COLOUR_WORDS.get(scene.ground, (scene.ground,)),
    }
    for template in held_out_templates():
        said = filled(template, scene, rng)
        assert [what for what, names in words.items() if not any(name in said for name in names)] == []
        assert "{" not in said


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
    few = ["--count", "8"]
    printed = run(
        ["autoencoder", *work, *on_cpu, "--small-steps", "2", "--steps", "2", "--decoder-steps", "2"],
        ["latents", *work, *on_cpu, "--count", "64"],
        ["words", *work, *on_cpu, "--steps", "2"],
        ["unet", *work, *on_cpu, *two_steps],
        ["unet", *work, *on_cpu, "--steps", "3", "--batch", "8"],
        ["export", *work, "--output", model],
        ["reopen", *again, "--model", model],
        ["latents", *again, *on_cpu, "--count", "64"],
        ["words", *again, *on_cpu, "--steps", "2", "--begin-with", str(tmp_path / "again/text_encoder"), "--rate", "0.5"],
        ["unet", *again, *on_cpu, *two_steps, "--begin-with", str(tmp_path / "again/unet")],
        ["judge", *work, *on_cpu, "--steps", "2", "--examined", "64"],
        ["evaluate", *work, *on_cpu, "--model", model, "--prompts", "4", "--wordings", "30", "--each-word", "1", "--steps", "2"],
        ["lora", *work, *on_cpu, *two_steps, *few, "--model", model, "--output", str(tmp_path / "beside/loras")],
        ["controlnet", *work, *on_cpu, *two_steps, *few, "--model", model, "--output", str(tmp_path / "beside/controlnets")],
        ["evaluate_beside", *on_cpu, "--model", model, "--beside", str(tmp_path / "beside"), "--count", "1", "--steps", "2"],
        ["samples", *on_cpu, "--model", model, "--steps", "2", "--output", str(tmp_path / "samples.png")],
    )
    assert "goes on at step 2 " in printed[4]
    assert (tmp_path / "model/model_index.json").is_file()
    report = json.loads(printed[-5])
    assert (report["prompts"], report["free wordings"], report["single words"]) == (4, 30, 14)
    assert set(report) >= {"subject", "colour", "ground", "all three", "free wordings right", "single words right"}
    beside = json.loads(printed[-2])
    assert list(beside["ink by scale"]) == ["0", "0.25", "0.5", "0.75", "1"]
    assert beside["ink by scale"]["0"]["50"] == 0
    assert 0 <= beside["overlap with the outline"] <= 1
    assert Image.open(io.BytesIO((tmp_path / "samples.png").read_bytes())).size == (1024, 1024)
