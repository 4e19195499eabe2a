"""ControlNets, IP-Adapters and a VAE from their folders, several in one request, all of them in one batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from numpy.typing import NDArray

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client, Image
from stablediffusiond.client.job import Job
from tests.end_to_end.conftest import Service
from tests.engine.families import save
from tests.engine.test_controlnets import save_controlnets
from tests.engine.test_ip_adapters import picture, save_ip_adapters
from tests.preloaded import request_daemon, response_daemon
from tools.private_broker import PrivateBroker

LOOK, OUTLINE, OTHER = picture(1), picture(2), picture(3)
JOBS: dict[str, dict[str, Any]] = {
    "none": {},
    "a VAE": {"vae": "soft"},
    "an IP-Adapter": {"ip_adapter": [{"name": "plain", "image": LOOK}]},
    "two IP-Adapters": {"ip_adapter": [{"name": "plain", "image": LOOK, "scale": 0.5}, {"name": "plus", "image": OTHER}]},
    "a ControlNet": {"control": [{"model": "edges", "image": OUTLINE}]},
    "two ControlNets": {
        "control": [{"model": "edges", "image": OUTLINE}, {"model": "depth", "image": OTHER, "scale": 0.5}]
    },
    "one of each": {
        "vae": "soft",
        "ip_adapter": [{"name": "plus", "image": LOOK}],
        "control": [{"model": "depth", "image": OUTLINE}],
    },
}
#: Of 255: what the order of a sum in float32 may make of a picture.
_ROUNDING = 2


@pytest.fixture(scope="module")
def service(
    broker: PrivateBroker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Both daemons, with a model of Stable Diffusion 1 that is tiny and has learnt nothing."""
    model = save("Stable Diffusion 1", tmp_path_factory.mktemp("family"))
    folder = model.parent
    pipeline = DiffusionPipeline.from_pretrained(model)
    save_ip_adapters(pipeline.unet, folder / "ip-adapters")
    save_controlnets(pipeline, folder / "controlnets")
    torch.manual_seed(7)
    AutoencoderKL.from_config(pipeline.vae.config).save_pretrained(folder / "vaes/soft")
    environment = {
        **names,
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_MODEL__NAME": str(model),
        "STABLEDIFFUSIOND_FOLDERS__CONTROLNETS": str(folder / "controlnets"),
        "STABLEDIFFUSIOND_FOLDERS__IP_ADAPTERS": str(folder / "ip-adapters"),
        "STABLEDIFFUSIOND_FOLDERS__VAES": str(folder / "vaes"),
    }
    topology = Topology(names["STABLEDIFFUSIOND_QUEUES__REQUESTS"], names["STABLEDIFFUSIOND_QUEUES__RESULTS"])
    with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
        requestd.wait_ready()
        responsed.wait_ready()
        yield Service(broker, requestd, responsed, environment, topology)


def submit(client: Client, fields: dict[str, Any]) -> Job:
    return client.submit(prompt="a cat", seed=1, steps=6, width=64, height=64, **fields)


def pixels(job: Job) -> NDArray[np.int16]:
    [image] = [event for event in job.events(timeout_seconds=120) if isinstance(event, Image)]
    return np.asarray(image.picture(), dtype=np.int16)


def test_each_has_what_it_asks_for_and_not_what_its_neighbours_do(service: Service) -> None:
    with Client(service.settings) as client:
        alone = {name: pixels(submit(client, fields)) for name, fields in JOBS.items()}
        jobs = {name: submit(client, fields) for name, fields in JOBS.items()}
        together = {name: pixels(job) for name, job in jobs.items()}
    for name, one in together.items():
        assert abs(one - alone[name]).max() <= _ROUNDING, name
        for other, its in alone.items():
            assert other == name or abs(one - its).max() > 10 * _ROUNDING, f"{name} is like {other}"
