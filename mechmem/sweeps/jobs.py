"""One job of a sweep: a run that is trained or re-opened, and measured; whoever works on it has it to himself."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from mechmem.core import files, storage
from mechmem.core.in_words import shown
from mechmem.core.locks import taken
from mechmem.core.subject import Subject
from mechmem.errors import MechmemError, RunDirectoryError
from mechmem.training.config import TrainConfig
from mechmem.training.train import train

State = Literal["done", "failed", "busy", "full"]

_ALONE = threading.Lock()
"""Runs of one process are trained one after the other, even where an engine calls it from several threads."""


class HasFolder(Protocol):
    """Something that is kept in a folder of its own."""

    @property
    def folder(self) -> str:
        """Name of the folder, unique among those of a sweep."""
        ...


class Measurement(HasFolder, Protocol):
    """A measurement of a run. It is sent to the process that makes it."""

    def __call__(self, subject: Subject) -> pd.DataFrame:
        """Measure a run; the columns of the table hold numbers, names and truth values."""
        ...


@dataclasses.dataclass(frozen=True)
class Job:
    """A run, and what is to be measured of it.

    Attributes:
        config: its training config.
        measurements: its measurements.
    """

    config: TrainConfig
    measurements: tuple[Measurement, ...]

    @property
    def digest(self) -> str:
        """Digest of the config, the name of the run."""
        return self.config.digest


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        digest: the job's.
        state: "done", "failed", "busy" (another process works on it), or "full" (there is no room to write).
        reason: why it failed, or "".
    """

    digest: str
    state: State
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where jobs are done.

    Attributes:
        folder: the sweep's directory. Runs are in `runs/<digest>`, tables in `measurements/<name>/<digest>.json`,
            reasons of failures in `failures/<digest>.json`, and in `claims/<digest>` what is being worked on.
        device: where to train.
        identity: identity of the directory, if nothing is to be written once it was moved away.
        since: time from which on a run that has failed is not tried again, in seconds since 1970.
    """

    folder: Path
    device: str = "cpu"
    identity: tuple[int, int] | None = None
    since: float = math.inf

    def run(self, digest: str) -> Path:
        """Return the directory of a run."""
        return self.folder / "runs" / digest

    def measured(self, measurement: HasFolder, digest: str) -> Path:
        """Return the path of the table of a measurement of a run."""
        return self.folder / "measurements" / measurement.folder / f"{digest}.json"

    def failure(self, digest: str) -> Path:
        """Return the path of the reason why a run failed."""
        return self.folder / "failures" / f"{digest}.json"

    def claim(self, digest: str) -> Path:
        """Return the path of the file that whoever works on a run holds; one that died leaves it there."""
        return self.folder / "claims" / digest

    def left(self, job: Job) -> tuple[Measurement, ...]:
        """Return the measurements of a job that are not there yet."""
        return tuple(each for each in job.measurements if not self.measured(each, job.digest).exists())

    def done(self, job: Job) -> bool:
        """Return whether a job is done: everything is measured, or the run has ended if there is nothing to measure."""
        return not self.left(job) if job.measurements else (self.run(job.digest) / "finished.json").exists()

    def settled(self, job: Job) -> Outcome | None:
        """Return what has become of a job by now, here or elsewhere, or None if it is still to be done."""
        if self.done(job):
            return Outcome(job.digest, "done")
        failed = self.why(job.digest, self.since)
        return Outcome(job.digest, "failed", failed) if failed else None

    def why(self, digest: str, since: float = -math.inf) -> str:
        """Return why a run failed the last time that it was tried, or "" if that was before `since`."""
        path = self.failure(digest)
        try:
            return str(files.read_object(path).get("reason", "")) if path.stat().st_mtime >= since else ""
        except (RunDirectoryError, OSError):
            return ""

    def fail(self, digest: str, reason: str) -> Outcome:
        """Keep the reason why a run failed."""
        files.write_json(self.failure(digest), {"reason": reason})
        return Outcome(digest, "failed", reason)


def work(job: Job, place: Place) -> Outcome:
    """Train a run, or re-open it, and write the measurements that are missing.

    Results are those of one thread. What another process has measured in the meantime is not measured again.
    """
    try:
        # Held until the end: if this process dies, the file stays, and tells on what it was working.
        with _ALONE, taken(place.claim(job.digest)), _one_thread():
            return place.settled(job) or _tried(job, place)
    except BlockingIOError:
        return Outcome(job.digest, "busy")
    except OSError as error:
        return Outcome(job.digest, "full" if files.is_full(error) else "failed", f"cannot write: {error}")


def _tried(job: Job, place: Place) -> Outcome:
    """Train and measure; a measurement that fails stops no other."""
    try:
        _check_in_place(place, "before a run was begun")
        subject = train(job.config, out=place.run(job.digest), device=place.device, progress=False)
    except Exception as error:
        return _failed(job.digest, error, place)
    outcome = Outcome(job.digest, "done")
    for measurement in place.left(job):
        try:
            rows = plain_rows(measurement(subject))
            _check_in_place(place, "before a measurement was written")
            files.write_hashed(place.measured(measurement, job.digest), {"run": job.digest, "rows": rows})
        except Exception as error:
            if outcome.state == "done":
                outcome = _failed(job.digest, error, place)
            if outcome.state == "full":
                break
    if outcome.state == "done":
        place.failure(job.digest).unlink(missing_ok=True)
    return outcome


def _failed(digest: str, error: Exception, place: Place) -> Outcome:
    """Keep why a run failed, unless that is because there is no room to write."""
    if files.is_full(error) or files.is_full(error.__cause__):
        return Outcome(digest, "full", reason_of(error))
    # Plugins and functions of others may raise anything; the other runs go on.
    return place.fail(digest, "out of memory" if isinstance(error, MemoryError) else reason_of(error))


def reason_of(error: BaseException) -> str:
    """Return an error in one line, after its type unless it is one of mechmem's."""
    said = " ".join(str(error).split())
    return said if isinstance(error, MechmemError) else f"{type(error).__name__}: {said}"


def _check_in_place(place: Place, when: str) -> None:
    if place.identity is not None:
        files.check_in_place(place.folder, place.identity, when)


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as JSON values; what is not finite becomes null, but for infinities, named."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is pd.NA or value is pd.NaT:
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def read_rows(path: Path) -> tuple[pd.DataFrame, bool]:
    """Read a table written by `work`, and whether it had a hash.

    Raises:
        RunDirectoryError: the file is missing or damaged.
    """
    values = files.read_json(path)
    # Older versions wrote the rows alone.
    content, hashed = files.without_hash(path, values if isinstance(values, dict) else {"rows": values})
    rows = content.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RunDirectoryError(f"{path} is damaged: it holds no rows")
    if content.get("run", path.stem) != path.stem:
        raise RunDirectoryError(f"{path} is of another run, {shown(content['run'])}")
    return pd.DataFrame([{name: _number(value) for name, value in row.items()} for row in rows]), hashed


def _number(value: Any) -> Any:
    return float(value) if value in ("inf", "-inf") else value


def warn_unless(hashed: bool, folder: Path) -> None:
    """Warn of tables that an older version wrote, without hashes.

    Warns:
        UncheckedWarning: `hashed` is False.
    """
    if not hashed:
        storage.warn_unchecked(folder)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread for all operations, of torch and of other libraries: results depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
