"""Deaths of processes: which job killed its own, and which was only beside it."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Generator, Sequence

from mechmem.core.locks import abandoned
from mechmem.sweeps.engine import EngineError
from mechmem.sweeps.jobs import Job, Outcome, Place

MOST_STARTS = 3
"""How often processes may die that had not begun a job."""


class Deaths:
    """Jobs that are left to an engine whose processes may die; one whose process died twice has failed.

    A process that died has left the file of the job that it was working on; one that ended has deleted it.

    Args:
        place: where the jobs are done.
        jobs: the jobs.
    """

    def __init__(self, place: Place, jobs: Sequence[Job]):
        self.left = {job.digest: job for job in jobs}
        self._place, self._died, self._in_vain = place, collections.Counter[str](), 0
        # Those of an earlier sweep that was killed say nothing about this one.
        self._abandoned()

    def _abandoned(self) -> list[str]:
        return [digest for digest in self.left if abandoned(self._place.claim(digest))]

    @property
    def together(self) -> list[Job]:
        """The jobs that are left, but for the suspects."""
        return [job for digest, job in self.left.items() if not self._died[digest]]

    @property
    def suspects(self) -> list[Job]:
        """The jobs that are left whose process has died once."""
        return [job for digest, job in self.left.items() if self._died[digest]]

    def ended(self, outcomes: Generator[Outcome]) -> Generator[Outcome]:
        """Yield outcomes of jobs that are left, which are then no longer."""
        with contextlib.closing(outcomes):
            for outcome in outcomes:
                if self.left.pop(outcome.digest, None) is not None:
                    yield outcome

    def count(self, why: str, log: str = "") -> Generator[Outcome]:
        """Count the deaths since the last time, and yield the outcome of each job whose process has now died twice.

        Args:
            why: what is known of the deaths.
            log: where more is to be read, or "".

        Raises:
            EngineError: processes died again and again, and none had begun a job.
        """
        begun = self._abandoned()
        self._in_vain += not begun
        if self._in_vain == MOST_STARTS:
            raise EngineError(f"worker processes died before they had begun anything: {why}")
        for digest in begun:
            self._died[digest] += 1
            if self._died[digest] > 1:
                del self.left[digest]
                yield self._place.fail(digest, f"its process died twice (out of memory?){log}")
