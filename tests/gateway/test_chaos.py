"""Whatever is killed, in whatever order, while clients ask and read: nothing is lost, and a key is one job."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.gateway.conftest import BODY, Running, running
from tests.preloaded import Preloaded, gateway, response_daemon
from tools.private_broker import PrivateBroker

JOBS = 60
FAULTS = 6


def kill_gateway(served: Running) -> None:
    served.daemon.kill()
    served.daemon.close()
    served.daemon = gateway(served.environment).wait_ready()


def kill_response_daemon(served: Running) -> None:
    served.responsed.kill()
    served.responsed.close()
    served.responsed = response_daemon(served.environment).wait_ready()


def kill_request_daemon(served: Running) -> None:
    served.requestd.kill()
    served.requestd.close()
    served.requestd = Preloaded("tests.gateway.drawing", served.environment).wait_ready()


def kill_broker(served: Running) -> None:
    served.broker.restart()


KILLS: list[Callable[[Running], None]] = [kill_gateway, kill_response_daemon, kill_request_daemon, kill_broker]


class Reader:
    """A client that asks for one picture, with a key, and reads its events to the end, however often it has to begin."""

    def __init__(self, client: httpx.AsyncClient, number: int) -> None:
        self._client = client
        self.number = number
        self.ids: set[str] = set()
        self.names: list[str] = []
        self.last = "0"

    async def run(self) -> None:
        while not self.ids or "done" not in self.names:
            try:
                await self._try()
            except httpx.HTTPError:
                await asyncio.sleep(0.2)  # what it asked is being started again

    async def _try(self) -> None:
        body = {**BODY, "seed": self.number, "steps": 30}
        answer = await self._client.post("/jobs", json=body, headers={"Idempotency-Key": f"job {self.number}"})
        if answer.status_code == 503:
            await asyncio.sleep(0.2)  # Retry-After, for the impatient
            return
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        self.ids.add(job)
        async with self._client.stream("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": self.last}) as events:
            async for line in events.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last = value
                if field == "event" and value in {"image", "done", "failed"}:
                    self.names.append(value)


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path, free_port: int) -> None:
    order = random.Random(17)
    faults = [*KILLS, *order.choices(KILLS, k=FAULTS - len(KILLS))]
    order.shuffle(faults)
    with PrivateBroker() as broker, running(broker, tmp_path, {"port": str(free_port)}) as served:
        broker.settle()
        readers = asyncio.run(chaos(served, faults))
        for reader in readers:
            assert (len(reader.ids), reader.names) == (1, ["image", "done"])
            [job] = reader.ids
            with served.client_with() as client:
                found: dict[str, Any] = client.get(f"/jobs/{job}").json()
                assert [image["seed"] for image in found["images"]] == [reader.number]
                assert len(client.get(f"/jobs/{job}/images/0").content) == found["images"][0]["bytes"]
        with served.client_with() as client:
            assert len(client.get("/jobs?limit=100").json()["jobs"]) == JOBS


async def chaos(served: Running, faults: list[Callable[[Running], None]]) -> list[Reader]:
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=served.address, timeout=20, trust_env=False, limits=limits) as client:
        readers = [Reader(client, number) for number in range(JOBS)]
        tasks = []
        for place, fault in enumerate(faults):
            share = readers[place * JOBS // FAULTS : (place + 1) * JOBS // FAULTS]
            tasks += [asyncio.create_task(reader.run()) for reader in share]
            await asyncio.sleep(0.3)  # so that some of them are drawn, and others not
            await asyncio.to_thread(fault, served)
        await asyncio.gather(*tasks)
        return readers
