"""``n_iter``: A1111 draws its iterations one after the other, and ``skip`` ends the one that is being drawn.

A job ends as a whole. So each iteration is a job of its own, and one request of a client's is several of them.
"""

import dataclasses
import uuid
from collections.abc import Sequence
from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.submission import Asking
from stablediffusiond.messages import seeds
from stablediffusiond.messages.request import derived_seed
from stablediffusiond.messages.values import Body, asks_for_nothing

_MOST: Final = 100


def split(fields: Body, asking: Asking) -> list[tuple[Body, Asking]]:
    """A body for each iteration, with the seeds that its pictures would have in one job.

    Raises:
        InvalidRequest: there are too many, or the seed is none.
    """
    times, batch = fields.get("n_iter"), fields.get("batch_size") or 1
    if not isinstance(times, int) or not isinstance(batch, int) or times < 2 or "id" in fields:
        return [(fields, asking)]  # what is wrong with it, the job says
    if times > _MOST:
        raise InvalidRequest(f"'n_iter' is {times}, and may be {_MOST} at most", field="n_iter")
    # A variation has one seed, and a subseed for each picture.
    varied = "seed" if asks_for_nothing(fields.get("subseed_strength")) else "subseed"
    key = asking.key or str(uuid.uuid4())
    chosen = {name: _seed(fields, name, key) for name in {"seed", varied}}
    return [
        (
            {**fields, "n_iter": 1, **chosen, varied: (chosen[varied] + place * batch) % seeds.SEEDS},
            dataclasses.replace(
                asking,
                body=b"%d of %s" % (place, asking.body),
                key=f"{asking.key}/{place}" if asking.key is not None else None,
            ),
        )
        for place in range(times)
    ]


def _seed(fields: Body, name: str, key: str) -> int:
    """Where it is left to us, one that a repeat with the same key has, too."""
    given = seeds.read(fields.get(name, -1), name)
    return derived_seed(f"{name} of {key}") if given is None else given


class Drawings:
    """Which jobs are one request's, as long as this gateway runs; a client that has left does not end them."""

    def __init__(self) -> None:
        self._of: dict[str, list[Sequence[Job]]] = {}

    def add(self, client: str, jobs: Sequence[Job]) -> None:
        self._of[client] = [*filter(_goes_on, self._of.get(client, [])), jobs]

    def of(self, client: str, under_way: Sequence[Job]) -> list[Sequence[Job]]:
        """Those of ``client`` that have not ended; what is ``under_way`` since before this gateway is by itself."""
        known = list(filter(_goes_on, self._of.get(client, [])))
        ids = {job.id for jobs in known for job in jobs}
        return [*([job] for job in under_way if job.id not in ids), *known]


def _goes_on(jobs: Sequence[Job]) -> bool:
    return not all(job.has_ended for job in jobs)
