"""A1111's API, with webuiapi, and the bodies that Open WebUI sends."""

import base64
import io
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import webuiapi
from PIL import Image

from stablediffusiond import samplers
from tests.gateway.conftest import Running

CHECKOUT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"prompt": "a red cat", "seed": 7, "steps": 10, "width": 64, "height": 64, "eta": 0}


@pytest.fixture
def api(served: Running) -> Any:
    return webuiapi.WebUIApi(baseurl=f"{served.address}/sdapi/v1")


def test_txt2img(api: Any) -> None:
    result = api.txt2img(**SMALL, batch_size=2, n_iter=2, negative_prompt="dog")
    assert [image.size for image in result.images] == [(64, 64)] * 4
    assert result.info["all_seeds"] == [7, 8, 9, 10]
    assert (result.info["prompt"], result.info["negative_prompt"], result.info["steps"]) == ("a red cat", "dog", 10)
    assert result.info["infotexts"][1] == result.images[1].info["parameters"]
    assert "Seed: 8," in result.info["infotexts"][1]
    assert (result.parameters["prompt"], result.parameters["n_iter"]) == ("a red cat", 2)


def test_img2img_and_a_mask(api: Any) -> None:
    red = Image.new("RGB", (64, 64), "red")
    assert api.img2img(images=[red], **SMALL).image.size == (64, 64)
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 32, 32))
    result = api.img2img(images=[red], mask_image=mask, mask_blur=0, inpaint_full_res=False, **SMALL)
    assert result.image.getpixel((60, 60)) == (255, 0, 0)
    assert result.image.getpixel((5, 5)) != (255, 0, 0)
    assert result.parameters["init_images"] is None


def test_what_open_webui_sends(served: Running) -> None:
    body = json.loads((CHECKOUT / "tests/messages/a1111/open_webui.json").read_text())
    answer = served.post("/sdapi/v1/txt2img", {**body, "width": 64, "height": 64, "steps": 10}).json()
    [first, second] = [Image.open(io.BytesIO(base64.b64decode(each))) for each in answer["images"]]
    assert first.size == second.size == (64, 64)
    assert json.loads(answer["info"])["all_prompts"] == ["a lighthouse", "a lighthouse"]


def test_progress_with_the_current_image_and_interrupt(api: Any) -> None:
    results: list[Any] = []
    drawing = threading.Thread(target=lambda: results.append(api.txt2img(**{**SMALL, "steps": 150})))
    other = webuiapi.WebUIApi(baseurl=api.baseurl)
    drawing.start()
    progress = other.get_progress()
    while progress["current_image"] is None:
        progress = other.get_progress()
    assert 0 < progress["progress"] < 1
    assert progress["eta_relative"] > 0
    assert progress["state"]["job_count"] == 1
    assert 0 < progress["state"]["sampling_step"] < progress["state"]["sampling_steps"]
    assert Image.open(io.BytesIO(base64.b64decode(progress["current_image"]))).format == "JPEG"
    assert other.interrupt() is None
    drawing.join()
    assert results[0].images == []
    assert other.get_progress()["progress"] == 0


def test_skip_ends_one_iteration_and_the_others_go_on(api: Any, served: Running) -> None:
    results: list[Any] = []
    drawing = threading.Thread(target=lambda: results.append(api.txt2img(**{**SMALL, "steps": 150}, n_iter=3)))
    other = webuiapi.WebUIApi(baseurl=api.baseurl)
    assert other.skip() is None  # nothing is drawn
    drawing.start()
    while (state := other.get_progress()["state"])["sampling_step"] == 0:
        continue
    assert (state["job_count"], state["job_no"]) == (3, 0)
    skipped = served.job(state["job"])["request"]["seed"]
    assert other.skip() is None
    drawing.join()
    left = [seed for seed in (7, 8, 9) if seed != skipped]
    assert results[0].info["all_seeds"] == left
    assert len(results[0].images) == 2


def test_interrupt_reaches_a_job_whose_client_has_left(api: Any, served: Running) -> None:
    with pytest.raises(httpx.ReadTimeout):
        served.client.post("/sdapi/v1/txt2img", json={**SMALL, "steps": 150, "n_iter": 2}, timeout=0.5)
    while (state := api.get_progress()["state"])["sampling_step"] == 0:
        continue
    assert state["job_count"] == 2
    assert api.interrupt() is None
    assert served.events(state["job"])[-1].name == "failed"
    while api.get_progress()["state"]["job_count"]:
        continue


def test_iterations_have_the_seeds_of_one_job(api: Any, served: Running) -> None:
    api.txt2img(**SMALL, n_iter=2, batch_size=2, subseed=3, subseed_strength=0.5)
    asked = [job["request"] for job in served.client.get("/jobs?limit=2").json()["jobs"]]
    assert sorted((each["seed"], each["subseed"], each["count"]) for each in asked) == [(7, 3, 2), (7, 5, 2)]
    chosen = api.txt2img(**{**SMALL, "seed": -1}, n_iter=2).info["all_seeds"]
    assert int(chosen[1]) == int(chosen[0]) + 1


def test_what_may_be_named(api: Any) -> None:
    assert api.util_get_sampler_names() == sorted(samplers.NAMES)
    assert "karras" in api.util_get_scheduler_names()
    assert [each["name"] for each in api.get_upscalers()] == ["None", "Lanczos", "Bicubic", "Nearest", "twice"]
    assert "Latent" in [each["name"] for each in api.get_latent_upscale_modes()]
    assert api.util_get_model_names() == ["doodle"]
    assert [each["model_name"] for each in api.get_sd_vae()] == ["soft"]
    assert [each["name"] for each in api.get_loras()] == ["ink"]
    assert list(api.get_embeddings()["loaded"]) == ["easy"]
    assert api.get_cmd_flags()["api"] is True
    assert api.get_memory()["ram"]["total"] > 0
    assert api.refresh_checkpoints() is None


def test_options(served: Running, api: Any) -> None:
    assert api.util_get_current_model() == "doodle"
    api.util_set_model("dodle")
    api.set_options({"CLIP_stop_at_last_layers": 2, "live_previews_enable": False})
    try:
        assert api.get_options()["CLIP_stop_at_last_layers"] == 2
        api.txt2img(**SMALL)
        job = served.client.get("/jobs").json()["jobs"][0]
        assert (job["request"]["clip_skip"], job["request"]["model"]) == (2, "doodle")
        assert api.txt2img(**SMALL, override_settings={"CLIP_stop_at_last_layers": 1}).images
        assert "clip_skip" not in served.client.get("/jobs").json()["jobs"][0]["request"]
    finally:
        api.set_options({"CLIP_stop_at_last_layers": 1})
    refused = served.post("/sdapi/v1/options", {"sd_model_checkpoint": "other"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_request")


def test_png_info(api: Any, served: Running) -> None:
    drawn = api.txt2img(**SMALL)
    assert api.png_info(drawn.image).info == drawn.info["infotexts"][0]
    found = served.post("/sdapi/v1/png-info", {"image": drawn.json["images"][0]}).json()
    assert (found["parameters"]["Prompt"], found["parameters"]["Seed"]) == ("a red cat", "7")
    assert api.png_info(Image.new("RGB", (8, 8))).info == ""
    assert served.post("/sdapi/v1/png-info", {"image": "cat.png"}).status_code == 400
    assert served.post("/sdapi/v1/png-info", {}).status_code == 400


def test_what_is_not_done_is_refused_in_its_form(served: Running) -> None:
    refused = {
        "/sdapi/v1/txt2img": {"prompt": "a cat", "restore_faces": True},
        "/sdapi/v1/img2img": {"prompt": "a cat"},
        "/sdapi/v1/extra-single-image": {"image": "", "gfpgan_visibility": 1},
    }
    for path, body in refused.items():
        answer = served.post(path, body)
        assert answer.status_code == 400
        assert answer.json()["detail"]
    answer = served.post("/sdapi/v1/extra-single-image", {"image": "x", "resize_mode": 1})
    assert "upscaling_resize" in answer.json()["detail"]
