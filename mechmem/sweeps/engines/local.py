"""Processes of this machine."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool

import joblib
from joblib.externals.loky.backend import get_context

from mechmem.core.processes import run_interruptibly, worker_pool
from mechmem.errors import ConfigError
from mechmem.sweeps.deaths import Deaths
from mechmem.sweeps.engine import Call, Engine
from mechmem.sweeps.jobs import Job, Outcome, Place

MOST = 16
"""Most processes per processor: a handful may wait for disks, and hundreds would only fill the memory."""


class Local(Engine):
    """Processes of this machine; each uses one thread, and ends when this process does."""

    # Started and sent to by joblib: the caller's script is not imported in them, which would need `if __name__ == ...`,
    # and functions of a notebook travel. In a pool of Python's own: joblib's kills all workers as soon as one has
    # ended, also those that still save what an interrupt has left them.

    name = "local"

    def check(self) -> None:
        """Refuse more processes than a machine could want (see `Engine`)."""
        super().check()
        if self.asked is not None and self.asked > (most := MOST * self.slots):
            raise ConfigError(
                f"number of workers must be at most {most} here ({MOST} per processor), got {self.asked:,}"
            )

    def count_slots(self) -> int:
        """Count the processors of this machine that this process may use."""
        return joblib.cpu_count()

    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job (see `Engine`).

        If a process dies, all end. What it was working on is done again, alone, so that it is known which job it is
        that kills its process; the others go on.
        """
        deaths = Deaths(Place(self.folder), jobs)
        while deaths.left:
            suspects = deaths.suspects
            try:
                yield from deaths.ended(_outcomes(call, deaths.together, self.workers))
                yield from deaths.ended(_outcomes(call, suspects, 1))
            except BrokenProcessPool as error:
                yield from deaths.count(" ".join(str(error).split())[:300])


def _outcomes(call: Call, jobs: Sequence[Job], workers: int) -> Generator[Outcome]:
    """Yield the outcome of each job, of which so many are done at a time as there are workers.

    Raises:
        BrokenProcessPool: a process died.
    """
    if not jobs:
        return
    sent = (joblib.wrap_non_picklable_objects(functools.partial(call, job)) for job in jobs)
    # One more than there are processes, so that none waits for its next job; but alone is alone.
    ahead = workers + 1 if workers > 1 else 1
    with worker_pool(min(workers, len(jobs)), get_context("loky")) as pool:
        given = {pool.submit(run_interruptibly, each) for each in itertools.islice(sent, ahead)}
        while given:
            ended, given = wait(given, return_when=FIRST_COMPLETED)
            for future in ended:
                given |= {pool.submit(run_interruptibly, each) for each in itertools.islice(sent, 1)}
                yield future.result()


ENGINE = Local
