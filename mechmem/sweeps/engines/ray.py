"""A Ray cluster."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import re
import socket
from collections.abc import Generator, Iterator, Sequence

from mechmem.core.processes import GRACE, same_handlers
from mechmem.errors import MissingNeedError
from mechmem.sweeps.engine import Call, Engine
from mechmem.sweeps.jobs import Job, Outcome, Place, reason_of

SECONDS = 10
"""How long a cluster has to answer."""
RETRIES = 3
"""How often a job whose process has died is done again."""


class Ray(Engine):
    """A Ray cluster: that of this process, or the one at `address` (or in RAY_ADDRESS, or started on this machine).

    All its nodes see the sweep's directory under the same path. A job whose process dies is done again, up to three
    times.
    """

    # Not through joblib's backend: its pool of actors does not survive one of them.

    name = "ray"
    needs = {"ray": "cluster-ray"}
    known = ("address",)

    def check(self) -> None:
        """Refuse a cluster that does not answer (see `Engine`)."""
        super().check()
        self.slots  # noqa: B018 - asks the cluster

    def count_slots(self) -> int:
        """Count the processors of the cluster."""
        import ray

        with self._cluster():
            return int(ray.cluster_resources().get("CPU", 0))

    @contextlib.contextmanager
    def _cluster(self) -> Iterator[None]:
        import ray

        if ray.is_initialized():
            yield
            return
        address = self.settings.get("address") or os.environ.get("RAY_ADDRESS") or "auto"
        try:
            _check_answers(address)
            # Ray has SIGTERM exit with its own status, past `interruptible`.
            with same_handlers():
                ray.init(address=address, log_to_driver=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            where = "none was found" if address == "auto" else f"nothing answers at {address}"
            start = "start it with `ray start --head`, and give its address"
            raise MissingNeedError(f"engine 'ray' needs a running cluster: {where}; {start}") from error
        try:
            yield
        finally:
            _leave()

    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job (see `Engine`)."""
        with self._cluster():
            yield from self._outcomes(call, jobs)

    def _outcomes(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        # On its own, so that its references to the cluster's objects are gone when that is left.
        import ray
        from ray.exceptions import RayError, RayTaskError

        task = ray.remote(num_cpus=1, max_retries=RETRIES)(call_of)
        waiting = iter(jobs)
        given = {task.remote(call, job): job for job in itertools.islice(waiting, self.workers)}
        try:
            while given:
                (ended,), _ = ray.wait(list(given), num_returns=1)
                job = given.pop(ended)
                if (following := next(waiting, None)) is not None:
                    given[task.remote(call, following)] = following
                try:
                    outcome = ray.get(ended)
                except RayTaskError as error:
                    outcome = Place(self.folder).fail(job.digest, reason_of(error.cause))
                except RayError as error:
                    outcome = Place(self.folder).fail(job.digest, f"its processes died ({type(error).__name__})")
                yield outcome
        finally:
            # They save what they have.
            for each in given:
                ray.cancel(each)
            if given:
                ray.wait(list(given), num_returns=len(given), timeout=GRACE)


def _leave() -> None:
    """Disconnect from the cluster, with no garbage left that refers to its objects, and none collected meanwhile.

    Errors of Ray keep references to objects in cycles. If the garbage collector of another thread drops one of them
    while Ray shuts down, Ray ends the process.
    """
    import ray

    collects = gc.isenabled()
    gc.disable()
    try:
        gc.collect()
        ray.shutdown()
    finally:
        if collects:
            gc.enable()


def _check_answers(address: str) -> None:
    # Ray asks for half a minute, writes warnings meanwhile, and may end the process.
    found = re.fullmatch(r"(?:ray://)?\[?(?P<host>[^/]+?)\]?:(?P<port>\d+)", address)
    if found is not None:
        socket.create_connection((found["host"], int(found["port"])), SECONDS).close()


def call_of(call: Call, job: Job) -> Outcome:
    """Do a job (Ray runs functions, and `call` is a partial one)."""
    return call(job)


ENGINE = Ray
