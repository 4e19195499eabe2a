"""Our own interface: a job from its request to its picture."""

import io

import pytest
from PIL import Image

from tests.gateway.conftest import BODY, Running


def test_a_job_is_taken_drawn_and_fetched(served: Running) -> None:
    answer = served.post()
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"/jobs/{job['id']}"
    assert (job["state"], job["images"]) == ("queued", [])
    names = [event.name for event in served.events(job["id"])]
    assert names[-2:] == ["image", "done"]
    assert "progress" in names
    job = served.job(job["id"])
    assert job["state"] == "done"
    [image] = job["images"]
    assert (image["seed"], image["width"], image["prompt"]) == (42, 64, "a red cat")
    file = served.client.get(f"/jobs/{job['id']}/images/0")
    assert file.headers["content-type"] == "image/png"
    assert len(file.content) == image["bytes"]
    with Image.open(io.BytesIO(file.content)) as picture:
        assert picture.size == (64, 64)
    assert served.client.get(image["url"]).content == file.content


def test_previews_come_with_the_events(served: Running) -> None:
    job = served.post(body={**BODY, "steps": 100}).json()["id"]
    previews = [event for event in served.events(job) if event.name == "preview"]
    assert previews
    assert previews[0].data["image"].startswith("data:image/jpeg;base64,/9j/")


def test_events_go_on_after_a_lost_connection(served: Running) -> None:
    job = served.draw(count=3)
    events = served.events(job["id"])
    assert [event.name for event in events] == ["image", "image", "image", "done"]
    for had, event in enumerate(events[:-1], start=1):
        assert event.id is not None
        rest = served.events(job["id"], **{"Last-Event-ID": event.id})
        assert [each.data.get("index") for each in rest] == [*range(had, 3), None]
    assert events[-1].id is not None
    ended = served.client.get(f"/jobs/{job['id']}/events", headers={"Last-Event-ID": events[-1].id})
    assert ended.status_code == 204


def test_a_repeated_key_is_the_same_job(served: Running) -> None:
    first = served.post(**{"Idempotency-Key": "one"}).json()
    assert served.post(**{"Idempotency-Key": "one"}).json()["id"] == first["id"]
    assert served.post(**{"Idempotency-Key": "two"}).json()["id"] != first["id"]
    other = served.post(body={**BODY, "seed": 1}, **{"Idempotency-Key": "one"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    served.events(first["id"])
    assert len(served.job(first["id"])["images"]) == 1


def test_an_id_of_the_client_s_own_is_a_key_too(served: Running) -> None:
    assert served.post(body={**BODY, "id": "my-cat"}).json()["id"] == "my-cat"
    assert served.post(body={**BODY, "id": "my-cat"}).status_code == 202
    assert served.post(body={**BODY, "id": "my-cat", "steps": 11}).status_code == 409
    assert served.post(body={**BODY, "id": "../cat"}).status_code == 400
    assert served.post(body={**BODY, "id": "my-dog"}, **{"Idempotency-Key": "x"}).status_code == 400


def test_a_job_is_cancelled_and_then_deleted(served: Running) -> None:
    job = served.post(body={**BODY, "steps": 150}).json()["id"]
    assert served.client.delete(f"/jobs/{job}").status_code == 202
    events = served.events(job)
    assert (events[-1].name, events[-1].data["error"]["code"]) == ("failed", "cancelled")
    assert served.job(job)["state"] == "failed"
    assert served.client.delete(f"/jobs/{job}").status_code == 204
    assert served.client.get(f"/jobs/{job}").status_code == 404
    assert not (served.store / "jobs" / job).exists()


def test_jobs_are_listed_the_newest_first(served: Running) -> None:
    made = [served.draw()["id"] for _ in range(3)][::-1]
    found = served.client.get("/jobs", params={"limit": 2}).json()["jobs"]
    assert [job["id"] for job in found] == made[:2]
    found = served.client.get("/jobs", params={"limit": 1, "before": made[1]}).json()["jobs"]
    assert [job["id"] for job in found] == made[2:]


def test_formats_and_warnings_come_through(served: Running) -> None:
    job = served.draw(format="webp", steps="7", C=4)
    assert job["images"][0]["content_type"] == "image/webp"
    assert job["images"][0]["url"].partition("?")[0].endswith("/0.webp")
    assert any("'C'" in warning for warning in job["warnings"])


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"prompt": "a cat", "stepz": 3}, 400, "invalid_request", "stepz"),
        ({}, 400, "invalid_request", "prompt"),
        ([1], 400, "invalid_request", None),
        ({"prompt": "x", "image": "https://example.org/cat.png"}, 400, "invalid_request", "image"),
        ({"prompt": "x", "image": "/etc/passwd"}, 400, "invalid_request", "image"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    served: Running, body: object, status: int, code: str, field: str | None
) -> None:
    answer = served.post(body=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error.get("field")) == (status, code, field)
    assert error["message"]


def test_what_is_not_there_is_said(served: Running) -> None:
    for path in ("/jobs/nowhere", "/jobs/nowhere/events", "/nothing", "/pictures/a/0.png?until=9999999999&key=00"):
        answer = served.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert served.client.put("/jobs").status_code == 405


def test_a_job_that_fails_says_why(served: Running) -> None:
    job = served.draw(prompt="not a number")
    assert (job["state"], job["error"]["code"]) == ("failed", "model_error")


def test_status_and_health(served: Running) -> None:
    assert served.client.get("/healthz").json() == {"healthy": True, "troubles": []}
    status = served.client.get("/status").json()
    assert status["workers"][0]["offer"]["loras"][0]["name"] == "ink"


def test_several_jobs_in_one_body(served: Running) -> None:
    bodies = [{**BODY, "seed": seed} for seed in range(3)]
    answer = served.post(body=bodies, **{"Idempotency-Key": "three"})
    assert answer.status_code == 202
    jobs = answer.json()["jobs"]
    assert [served.events(job["id"])[-1].name for job in jobs] == ["done"] * 3
    assert [served.job(job["id"])["images"][0]["seed"] for job in jobs] == [0, 1, 2]
    again = served.post(body=bodies, **{"Idempotency-Key": "three"}).json()["jobs"]
    assert [job["id"] for job in again] == [job["id"] for job in jobs]


def test_of_several_jobs_none_is_taken_if_one_cannot_be_drawn(served: Running) -> None:
    before = served.client.get("/jobs").json()["jobs"][0]["id"]
    assert served.post(body=[BODY, {**BODY, "steps": "many"}]).json()["error"]["field"] == "steps"
    for wrong in ([], [BODY] * 101, [BODY, 1]):
        assert served.post(body=wrong).status_code == 400
    assert served.client.get("/jobs").json()["jobs"][0]["id"] == before
