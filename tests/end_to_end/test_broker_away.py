"""The broker is killed under a running job."""

import re

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client, Done, Image
from tests.client_settings import client_settings
from tests.preloaded import request_daemon, response_daemon
from tools.private_broker import PrivateBroker


def test_a_job_outlives_its_broker_and_is_not_drawn_twice(
    own_broker: PrivateBroker, topology: Topology, environment: dict[str, str]
) -> None:
    environment |= {"STABLEDIFFUSIOND_BROKER__URL": own_broker.url}
    with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
        requestd.wait_ready()
        responsed.wait_ready()
        with Client(client_settings(own_broker.url, topology, responsed.port())) as client:
            job = client.submit(prompt="a red cat", steps=150, count=3)
            requestd.wait_log(f"job {job.id} begins")
            own_broker.settle()
            own_broker.kill()
            requestd.wait_log("connection to the broker lost")
            own_broker.start()
            events = list(job.events(timeout_seconds=200))
        images = [event for event in events if isinstance(event, Image)]
        assert [image.facts.index for image in images] == [0, 1, 2]
        assert isinstance(events[-1], Done)
        assert len(re.findall(f"job {job.id} begins", requestd.log)) == 1
        requestd.wait_status("^0 drawing, 0 waiting, [0-9.]+ img/s$")
        assert requestd.stop() == 0


def test_daemons_start_without_a_broker_and_go_on_when_it_comes(absent_broker: PrivateBroker, environment: dict[str, str]) -> None:
    environment |= {"STABLEDIFFUSIOND_BROKER__URL": absent_broker.url}
    with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
        responsed.wait_ready().wait_status("is RabbitMQ running there")
        requestd.wait_log("is RabbitMQ running there")
        absent_broker.start()
        requestd.wait_ready()
        responsed.wait_status("^0 clients$")
        outage = [line for line in requestd.log.splitlines() if "trying on" in line]
        assert len(outage) == 2, "one line for each connection, not one for each try"
