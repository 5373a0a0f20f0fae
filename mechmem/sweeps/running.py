"""Jobs on an engine, shared with whoever else works in the same directory."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Generator, Sequence

from mechmem.core.locks import is_taken
from mechmem.errors import TrainingFailedError
from mechmem.sweeps.engine import Engine, EngineError
from mechmem.sweeps.jobs import Job, Outcome, Place, work

SECONDS = 1.0
"""Time between two looks at what other processes work on."""


def finish(jobs: Sequence[Job], place: Place, engine: Engine) -> Generator[Outcome]:
    """Do jobs, and yield the outcome of each, "done" or "failed", whether done here or by another process meanwhile.

    A job that another process works on is waited for at the end, and taken over if that process dies.

    Raises:
        TrainingFailedError: the disk is full, or the engine loses its processes again and again.
    """
    call = functools.partial(work, place=place)
    left, elsewhere = {job.digest: job for job in jobs}, dict[str, Job]()
    while left:
        try:
            with contextlib.closing(engine.run(call, list(left.values()))) as outcomes:
                for outcome in outcomes:
                    if outcome.state == "full":
                        raise TrainingFailedError(f"there is no room left in {place.folder}: {outcome.reason}")
                    if outcome.state == "busy":
                        elsewhere[outcome.digest] = left[outcome.digest]
                    else:
                        yield outcome
        except EngineError as error:
            raise TrainingFailedError(str(error)) from error
        left = {}
        while elsewhere and not left:
            free = [digest for digest in elsewhere if not is_taken(place.claim(digest))]
            for digest in free:
                job = elsewhere.pop(digest)
                if (outcome := place.settled(job)) is None:
                    left[digest] = job
                else:
                    yield outcome
            if not free:
                time.sleep(SECONDS)
