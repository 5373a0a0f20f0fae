"""A Dask cluster."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Sequence
from typing import Any

from mechmem.errors import MissingNeedError
from mechmem.sweeps.engine import Call, Engine, EngineError
from mechmem.sweeps.jobs import Job, Outcome, Place, reason_of

SECONDS = 10
"""How long a scheduler has to answer."""


class Dask(Engine):
    """A Dask cluster: the client of this process, or the scheduler at `address` (or in DASK_SCHEDULER_ADDRESS).

    All its workers see the sweep's directory under the same path. A job whose worker dies goes to another one, as often
    as the cluster's `allowed-failures` says.
    """

    # Not through joblib's backend, which waits for ever for a job that the scheduler has given up.

    name = "dask"
    needs = {"distributed": "cluster-dask"}
    known = ("address",)

    def check(self) -> None:
        """Refuse a cluster that does not answer (see `Engine`)."""
        super().check()
        self.slots  # noqa: B018 - asks the cluster

    def count_slots(self) -> int:
        """Count the threads of the cluster's workers."""
        with self._client() as client:
            return sum(client.ncores().values())

    @contextlib.contextmanager
    def _client(self) -> Generator[Any]:
        from dask.config import get
        from distributed import Client, get_client

        address = self.settings.get("address") or get("scheduler-address", None)
        try:
            own = None if address is None else Client(address, timeout=SECONDS, set_as_default=False)
            client = get_client() if own is None else own
        except (ValueError, OSError, TimeoutError) as error:
            where = "no address was given" if address is None else f"nothing answers at {address}"
            start = "start it with `dask scheduler` and `dask worker`, and give its address"
            raise MissingNeedError(f"engine 'dask' needs a running cluster: {where}; {start}") from error
        with own or contextlib.nullcontext():
            yield client

    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job (see `Engine`)."""
        from distributed import KilledWorker, as_completed

        with self._client() as client:
            waiting = iter(jobs)
            given = {client.submit(call, job, pure=False): job for job in itertools.islice(waiting, self.workers)}
            ended = as_completed(given, loop=client.loop)
            try:
                for future in ended:
                    job = given.pop(future)
                    if (following := next(waiting, None)) is not None:
                        another = client.submit(call, following, pure=False)
                        given[another] = following
                        ended.add(another)
                    if future.status == "finished":
                        yield future.result()
                    elif future.status == "error":
                        error = future.exception()
                        died = "its workers died (KilledWorker)"
                        reason = died if isinstance(error, KilledWorker) else reason_of(error)
                        yield Place(self.folder).fail(job.digest, reason)
                    else:
                        raise EngineError(f"the Dask cluster gave up a job ({future.status}): has its scheduler ended?")
            finally:
                client.cancel(list(given))


ENGINE = Dask
