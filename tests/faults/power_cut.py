"""A RabbitMQ node whose disk loses what was not synced, when the power goes."""

import random
from typing import Any, Self

from tests.faults.recorded_disk import RecordedDisk
from tools.private_broker import PrivateBroker


class PowerCutBroker(PrivateBroker):
    """``kill`` ends the node and leaves its files as they are; ``cut_power`` leaves what its disk would hold."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        beside = self._folder / "disk"
        beside.mkdir()
        self.disk = RecordedDisk(self.data_folder, beside)
        self.server_environment = self.disk.environment

    def settle(self) -> Self:
        """Wait until what was declared just now would survive ``cut_power``, too."""
        super().settle()
        self.disk.sync()
        return self

    def cut_power(self, rng: random.Random, *, lied_since: float | None = None) -> None:
        """``lied_since``: from then on, on the monotonic clock, its disk has only said that it synced."""
        self.kill()
        self.disk.cut_power(rng, lied_since=lied_since)

    def lose_data(self) -> None:
        super().lose_data()
        self.disk.keep()
