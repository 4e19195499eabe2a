"""Jobs whose daemon died come to the others all at once: none may collect the deaths of another."""

import asyncio
import re
import signal
from collections import Counter

import pytest

from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT, Topology, declare_queues
from stablediffusiond.settings import BrokerSettings
from tests.faults.failing_prompts import POISON
from tests.requestd.several_daemons import Start, connected, with_models

MODELS = ("b", "c", "d", "e")


@pytest.mark.parametrize("poisoned", MODELS)
async def test_the_deaths_of_one_are_not_counted_for_those_that_came_with_it(
    poisoned: str, environment: dict[str, str], settings: BrokerSettings, topology: Topology, start: Start
) -> None:
    chosen = with_models(environment, *MODELS)
    queues = {model: topology.request_queue("normal", model) for model in MODELS}
    async with connected(settings, topology) as broker:
        for model in MODELS:
            await declare_queues(broker.connection, map(topology.declared, topology.request_queues(model)))
            await broker.publish(model, model=model, queue_of=model, prompt=POISON if model == poisoned else "cat")
        dead = [await broker.channel.get(queue) for queue in queues.values()]
        logs = [first := start(chosen)]
        await broker.until_waited_at(queues.values(), consumers=2)  # whoever holds a message is counted as one
        first.process.send_signal(signal.SIGSTOP)
        for delivery in dead:
            assert delivery is not None
            delivery.requeue()
        await broker.until_delivered(queues.values())
        first.process.send_signal(signal.SIGCONT)
        assert await asyncio.to_thread(first.process.wait, 60) == -9
        all_ended = asyncio.create_task(broker.until_ended(*MODELS))
        while not all_ended.done():
            logs.append(daemon := start(chosen))
            died = asyncio.create_task(asyncio.to_thread(daemon.process.wait))
            await asyncio.wait({all_ended, died}, return_when=asyncio.FIRST_COMPLETED)
            daemon.kill()
            await died
        await all_ended
    assert broker.ends == {**dict.fromkeys(MODELS, "done"), poisoned: "crashed"}
    assert len(logs) <= 2 + REQUEST_DELIVERY_LIMIT
    delivered = Counter(re.findall(r"job (.) was delivered (?:[2-9]|\d\d+) times before", "".join(d.log for d in logs)))
    assert set(delivered) == {poisoned}, "one that came with it was in the daemon's hands when that died"
