"""Disks that lose what was not synced, lie about it, or give back other bits: what is then promised, holds."""

import random
import time
from collections.abc import Iterator

import pytest

from tests.faults import cluster_faults, disk_faults, faults
from tests.faults.job_records import JobRecord
from tests.faults.power_cut import PowerCutBroker
from tests.faults.service_under_test import ServiceUnderTest
from tests.faults.test_cluster import PATIENCE, jobs_coming_in, wait_goes_on
from tools.private_cluster import PrivateCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[PrivateCluster]:
    with PrivateCluster(PowerCutBroker) as made:
        yield made


@pytest.fixture(scope="module")
def service(cluster: PrivateCluster) -> Iterator[ServiceUnderTest]:
    with ServiceUnderTest(fake_denoiser=True, cluster=cluster, environment=PATIENCE) as made:
        for node in cluster.nodes:
            node.settle()
        yield made


@pytest.fixture
def single() -> Iterator[ServiceUnderTest]:
    with PowerCutBroker() as broker, ServiceUnderTest(fake_denoiser=True, broker=broker) as made:
        broker.settle()
        yield made


def some_jobs(service: ServiceUnderTest) -> None:
    for kind in list(service.client.kinds)[:8]:
        service.client.submit(kind)


def test_a_node_alone_loses_its_power(single: ServiceUnderTest) -> None:
    reference = single.reference_run()
    broker = single.broker
    assert isinstance(broker, PowerCutBroker)
    for seed in range(3):
        some_jobs(single)
        disk_faults.power_cut(single, random.Random(seed))
        some_jobs(single)
    single.settle()
    single.check(reference)
    single.ctl("stop")
    broker.kill()
    assert broker.disk.unrecorded() == [], "a system call is missing in recorded_writes.c"


def test_a_disk_that_lies_loses_jobs_and_no_more(single: ServiceUnderTest) -> None:
    """Nothing can be promised of those; later jobs are drawn, and all answers are right."""
    reference = single.reference_run()
    single.requestds[0].kill()
    broker = single.broker
    assert isinstance(broker, PowerCutBroker)
    broker.settle()
    lying_since = time.monotonic()
    some_jobs(single)
    broker.cut_power(random.Random(1), lied_since=lying_since)
    assert not single.client.records.ended
    broker.start()
    single.start_ended_daemons()
    asked = set(single.client.records.jobs)
    some_jobs(single)
    for job_id in single.client.records.jobs.keys() - asked:
        assert single.client.records.wait_for_end(job_id, 60), f"{job_id} has not ended"
    assert set(single.client.records.lost()) == asked, "the disk has not lied"
    assert not single.client.records.wrong(reference)
    single.wait_depths({})


@pytest.mark.parametrize(
    "fault",
    [
        cluster_faults.all_nodes_killed,
        disk_faults.power_cut_of_all_nodes,
        disk_faults.power_cut_of_a_node,
        disk_faults.lying_disk_of_a_node,
    ],
    ids=lambda fault: fault.__name__,
)
@pytest.mark.usefixtures("new_records")
def test_nodes_of_a_cluster_lose_their_power(
    service: ServiceUnderTest, reference: dict[str, JobRecord], fault: faults.Fault
) -> None:
    with jobs_coming_in(service):
        wait_goes_on(service)
        fault(service, random.Random(1))
        wait_goes_on(service)
    service.settle()
    service.check(reference)


@pytest.mark.parametrize("suffix", [".wal", ".segment"])
@pytest.mark.usefixtures("new_records")
def test_a_node_whose_files_are_damaged_is_replaced(
    cluster: PrivateCluster, service: ServiceUnderTest, reference: dict[str, JobRecord], suffix: str
) -> None:
    rng = random.Random(1)
    damaged = cluster.nodes[2]
    with jobs_coming_in(service):
        wait_goes_on(service)
        if suffix == ".segment":
            damaged.restart()  # which makes segments of the log
            wait_goes_on(service)
        damaged.kill()
        for path in disk_faults.files_of_queues(damaged):
            if path.suffix == suffix:
                for _ in range(10):
                    disk_faults.flip_bit(path, rng)
        wait_goes_on(service)
        assert disk_faults.start_or_replace(cluster, damaged), "the node has not noticed"
        wait_goes_on(service)
    service.settle()
    service.check(reference)
