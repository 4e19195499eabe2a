"""What the tests of faults share; each file has a ``service`` of its own."""

import pytest

from tests.faults.job_records import JobRecord, JobRecords
from tests.faults.service_under_test import ServiceUnderTest


@pytest.fixture(scope="module")
def reference(service: ServiceUnderTest) -> dict[str, JobRecord]:
    return service.reference_run()


@pytest.fixture
def new_records(service: ServiceUnderTest, reference: dict[str, JobRecord]) -> None:
    """What one fault has broken is not counted against the next."""
    service.client.records = JobRecords()
