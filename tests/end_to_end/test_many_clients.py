"""Fifty jobs of every kind from five clients at once."""

import base64
import io
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from PIL import Image as Pillow

from stablediffusiond.client import Client, Done, Failed, Image
from tests.end_to_end.conftest import Service


def init_image() -> str:
    out = io.BytesIO()
    Pillow.new("RGB", (96, 96), "red").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def requests(client: int) -> list[dict[str, object]]:
    """Ten jobs: sizes, samplers, priorities, several images, img2img, one cancelled, one that cannot be in time."""
    return [
        {"prompt": f"cat {client}", "steps": 6, "seed": client},
        {"prompt": "dog", "steps": 9, "count": 3, "sampler": "Euler a"},
        {"prompt": "tree", "steps": 4, "guidance_scale": 1},
        {"prompt": "house", "steps": 5, "width": 96, "height": 64, "priority": "high"},
        {"prompt": "boat", "steps": 7, "sampler": "DPM++ 2M Karras", "negative_prompt": "red"},
        {"prompt": "fish", "steps": 8, "image": init_image(), "strength": 0.5, "priority": "low"},
        {"prompt": "star", "steps": 3, "sampler": "Heun", "count": 2},
        {"prompt": "moon", "steps": 6, "sampler": "LMS"},
        {"prompt": "late", "steps": 6, "deadline_seconds": 0.000001},
        {"prompt": "cancelled", "steps": 150, "count": 4, "priority": "low"},
    ]


def test_every_job_has_one_outcome_and_every_client_only_its_own(service: Service) -> None:
    barrier = threading.Barrier(5)

    def run(number: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        with Client(service.settings) as client:
            barrier.wait()
            jobs = [client.submit(fields) for fields in requests(number)]
            client.cancel(jobs[-1].id)
            for job, fields in zip(jobs, requests(number), strict=True):
                events = list(job.events(timeout_seconds=200))
                pictures = [event for event in events if isinstance(event, Image)]
                assert all(picture.facts.id == job.id for picture in pictures)
                end = events[-1]
                assert isinstance(end, Done | Failed)
                if isinstance(end, Done):
                    assert [picture.facts.index for picture in pictures] == list(range(job.request.count))
                    assert {picture.facts.prompt for picture in pictures} == {fields["prompt"]}
                    outcomes["done"] += 1
                else:
                    outcomes[end.error.code] += 1
        return outcomes

    with ThreadPoolExecutor(5) as pool:
        totals = sum(pool.map(run, range(5)), Counter[str]())
    assert totals == {"done": 40, "expired": 5, "cancelled": 5}
    service.requestd.wait_status("^0 drawing, 0 waiting, [0-9.]+ img/s$")
    service.wait_depths(lambda depths: not any(depths.values()))
