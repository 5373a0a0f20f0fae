"""A SLURM cluster."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from mechmem.core.processes import GRACE
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.sweeps.deaths import Deaths
from mechmem.sweeps.engine import Call, Engine
from mechmem.sweeps.jobs import Job, Outcome, Place

SECONDS = 2.0
"""Time between two looks at the directory."""


class Slurm(Engine):
    """A SLURM cluster, by submitit: an array of as many tasks as there are workers, each with its part of the jobs.

    `cluster=local` starts the tasks on this machine instead. Other settings are those of submitit's executor, e.g.
    `timeout_min=240 slurm_partition=long mem_gb=8`. A task that runs into its time limit is queued again, and goes on.
    """

    name = "slurm"
    needs = {"submitit": "cluster-slurm"}
    known = None

    def check(self) -> None:
        """Refuse where SLURM is not there (see `Engine`)."""
        super().check()
        with tempfile.TemporaryDirectory() as nowhere:
            self._executor(Path(nowhere))

    def count_slots(self) -> int:
        """Nobody knows how many tasks are wanted.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("engine 'slurm' needs the number of workers: how many tasks run at the same time")

    def _executor(self, logs: Path) -> Any:
        import submitit

        settings = dict(self.settings)
        cluster = settings.pop("cluster", "slurm")
        try:
            executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
            executor.update_parameters(cpus_per_task=1, **settings)
        except (RuntimeError, ValueError, NameError, TypeError) as error:
            raise MissingNeedError(f"engine 'slurm': {' '.join(str(error).split())}") from error
        return executor

    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job (see `Engine`).

        If a task dies, what is left of its jobs is submitted again.
        """
        executor = self._executor(self.folder / "slurm")
        deaths = Deaths(Place(self.folder), jobs)
        while deaths.left:
            left = list(deaths.left.values())
            tasks = min(self.workers, len(left))
            with executor.batch():
                given = [executor.submit(Part(call, left[number::tasks])) for number in range(tasks)]
            try:
                yield from deaths.ended(self._ended(given, left))
            except TaskDiedError as error:
                yield from deaths.count(str(error), f"; its log is in {self.folder / 'slurm'}")

    def _ended(self, given: Sequence[Any], jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcomes of jobs as they end.

        Raises:
            TaskDiedError: all tasks have ended, and one of them before its jobs were done.
        """
        place, left = Place(self.folder), {job.digest: job for job in jobs}
        ended = False
        try:
            while not ended:
                ended = all(task.done() for task in given)
                for digest in [digest for digest, job in left.items() if place.done(job)]:
                    del left[digest]
                    yield Outcome(digest, "done")
                if not left:
                    return
                if not ended:
                    time.sleep(SECONDS)
        finally:
            if left and not ended:
                for task in given:
                    task.cancel()
                # They save what they have; and a local task's process is a child of this one, to be waited for.
                until = time.monotonic() + GRACE
                while time.monotonic() < until and not all(task.done(force_check=True) for task in given):
                    time.sleep(SECONDS)
        # What the tasks said of the others is known now.
        died = ""
        for task in given:
            if (error := task.exception()) is None:
                yield from task.result()
            else:
                died = _last_line(task.stderr()) or str(error).partition("\n")[0]
        if died:
            raise TaskDiedError(died)


class TaskDiedError(Exception):
    """A task ended before its jobs were done."""


def _last_line(text: str | None) -> str:
    return (text or "").strip().rpartition("\n")[2]


class Part:
    """The jobs of one task. A task that is preempted or runs into its time limit is queued again with the same ones."""

    def __init__(self, call: Call, jobs: Sequence[Job]):
        self._call, self._jobs = call, jobs

    def __call__(self) -> list[Outcome]:
        """Do the jobs, one after the other."""
        return [self._call(job) for job in self._jobs]

    def checkpoint(self, *_: Any) -> Any:
        """Return what is submitted instead (submitit calls this before a task ends): what is done is not done again."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


ENGINE = Slurm
