"""Fuzzing guided by what each case reaches in the code, for as long as one likes: ``python -m tests.fuzz TARGET MINUTES``.

It needs atheris (``pip install atheris``), which nothing else does. A case that breaks its target, takes more than a second
or more than a gigabyte ends it, and is kept in a file that is named last.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stablediffusiond"]):
    from tests.fuzz import seeds, targets


def main(target: str, minutes: str) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as corpus:
        for number, data in enumerate(seeds.of(target).values()):
            if len(data) < 5_000:
                (Path(corpus) / str(number)).write_bytes(data)
        limits = [f"-max_total_time={float(minutes) * 60:.0f}", "-timeout=1", "-rss_limit_mb=1000", "-max_len=5000"]
        atheris.Setup([sys.argv[0], *limits, corpus], targets.TARGETS[target])
        atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
