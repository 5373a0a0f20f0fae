"""This process."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from mechmem.sweeps.engine import Call, Engine
from mechmem.sweeps.jobs import Job, Outcome


class Inline(Engine):
    """This process, one job after the other: for a debugger, and for a task of any other scheduler."""

    name = "inline"

    def count_slots(self) -> int:
        """Return 1."""
        return 1

    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job (see `Engine`)."""
        for job in jobs:
            yield call(job)

    def in_words(self) -> str:
        """Write on what it runs."""
        return "this process"


ENGINE = Inline
