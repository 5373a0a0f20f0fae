"""`sweep`: trainings over a grid of settings, and measurements of all of them."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from torch import Tensor

from mechmem.analyses.measuring import What
from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.in_words import reason
from mechmem.core.paths import check_path, check_place
from mechmem.core.processes import interruptible
from mechmem.errors import ConfigError, MechmemError, RunDirectoryError, TrainingFailedError
from mechmem.models.hooks.running import resolve_device
from mechmem.sweeps.cost import expected_seconds
from mechmem.sweeps.directory import Listing, check_directory, open_directory
from mechmem.sweeps.engine import engine as engine_of
from mechmem.sweeps.grid import Cell, cells_of, given_cells, varied
from mechmem.sweeps.jobs import Job, Place
from mechmem.sweeps.measurements import Function, Named, named
from mechmem.sweeps.progress import runs_progress
from mechmem.sweeps.running import finish
from mechmem.sweeps.table import Sweep, table_of
from mechmem.tasks.build import build_task
from mechmem.training.config import TrainConfig
from mechmem.training.header import started
from mechmem.training.run import Run


@checked
def sweep(
    configs: TrainConfig | Sequence[TrainConfig],
    grid: Mapping[str, Any] | None = None,
    *,
    out: str | Path,
    measure: What | Function | Sequence[What | Function] = ("raw",),
    engine: str = "local",
    workers: int | None = None,
    settings: Mapping[str, Any] | None = None,
    share: tuple[int, int] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Sweep:
    """Train a network for every cell of a grid, measure all of them, and return one table; or go on with that.

    Every cell has a run directory of its own, and a measurement is kept once it is made: after an interrupt, a crash or
    a full disk the same call goes on, and cells or measurements may be added. Several calls on one directory share the
    work, from any number of machines that see it. A cell that fails says why in the table, and the others go on; the
    next call tries it again. Results are those of one thread, whatever the engine.

        sweep = mm.sweep(
            mm.TrainConfig(mm.ModularConfig(p=31), weight_decay=1.0, steps=2000),
            {"label_noise": [0.0, 0.2, 0.4], "seed": range(3)},
            measure=["raw", "frequency", "structure"],
            out="sweeps/noise",
        )
        sweep.plot(x="label_noise", y="frequency")

    Args:
        configs: the config of all cells, with a grid; or the configs themselves.
        grid: values by the name of the setting, as an option of `mechmem train` ("label_noise", "width"; "seed" is that
            of task and training), or as its path ("task.noise.fraction"). A value may be a config ("model").
        out: the sweep's directory.
        measure: names that `mm.over_training` takes, such plugins, or functions of a network that return a number,
            numbers by name, or a table; () to train only. A function is known by its name, its code and all that this
            reads: default arguments, what it closes over, the state of its object, globals, and functions and classes
            of your own. A value that it changes itself, such as a list of calls, makes it another at the next call.
        engine: "local", processes of this machine; "inline", this process; "dask", "ray" or "slurm", a cluster.
        workers: number of processes, one thread each; by default as many as the machine or the cluster has.
        settings: settings of the engine, e.g. {"address": "tcp://head:8786"}.
        share: (i, n) for the i-th of n parts, done in this process: for the tasks of any other scheduler.
        device: where to train.
        progress: whether to show a bar (plain lines where standard error is not a terminal).

    Raises:
        ConfigError: the grid has no or too many cells, two that are the same, or one that contradicts itself; or no
            cell's task can be built.
        UnknownNameError: there is no such setting, measurement or engine; the message suggests the nearest.
        MissingNeedError: the engine is not installed, or its cluster not running.
        RunDirectoryError: `out` holds something else, or another sweep.
        TrainingFailedError: there is no room left, or the engine loses its processes again and again.
        KeyboardInterrupt: interrupted; the state of every run is saved.
        SystemExit: the process was ended by SIGTERM (status 143); likewise.
    """
    check_path(out)
    if isinstance(configs, TrainConfig):
        base = configs
        cells = cells_of(_listed(grid or {}), lambda values: varied(base, values))
    elif grid is not None:
        raise ConfigError("grid varies a single config: pass one TrainConfig, or the configs without a grid")
    else:
        cells = given_cells(list(configs))
    return run_cells(
        cells,
        named(measure),
        Path(out),
        engine=engine,
        workers=workers,
        settings=settings or {},
        share=share,
        device=device,
        progress=progress,
    )


def _listed(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    found = {}
    for name, values in grid.items():
        listed = isinstance(values, Collection) and getattr(values, "ndim", 1) == 1
        if not listed or isinstance(values, str | Mapping | Set):
            raise ConfigError(f"grid: {name} must be a list of values, got {values!r}")
        # Elements of arrays are numpy's or torch's numbers.
        found[name] = values.tolist() if isinstance(values, np.ndarray | Tensor) else list(values)
    return found


def run_cells(
    cells: Sequence[Cell],
    measurements: Sequence[Named],
    out: Path,
    *,
    engine: str = "local",
    workers: int | None = None,
    settings: Mapping[str, Any],
    share: tuple[int, int] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Sweep:
    """Train and measure cells (see `sweep`)."""
    resolve_device(device)
    if share is not None:
        check_share(share)
        if engine != "local":
            raise ConfigError(f"a share is done in this process, not on an engine: leave out engine {engine!r}")
    runner = engine_of("inline" if share else engine, workers, out, settings)
    if runner.name != "inline":
        check_sent(measurements)
    check_place(out)
    _check_tasks(cells)
    asked = Listing.of(cells, measurements)
    check_directory(out, asked)
    if share is None:
        runner.workers  # noqa: B018 - says whether a number is needed
    names = [each.name for each in measurements]
    try:
        with interruptible():
            listing = open_directory(out, asked)
            place = Place(out, device, since=time.time())
            every = [Job(cell.config, tuple(measurements)) for cell in cells]
            own = every if share is None else every[share[0] % share[1] :: share[1]]
            jobs = [job for job in own if not place.done(job)]
            if jobs:
                _check_data(every, place)
                expected = expected_seconds({job.digest: job.config for job in jobs})
                # Long runs first, so that none of them runs alone at the end.
                jobs.sort(key=lambda job: -expected[job.digest])
                progress_bar = runs_progress(out.name, expected, runner.workers, runner.in_words(), show=progress)
                # Closed at once if this is interrupted, also where the error with its frames is kept, as by a notebook.
                with progress_bar as report, contextlib.closing(finish(jobs, place, runner)) as outcomes:
                    for outcome in outcomes:
                        report(outcome.digest, failed=outcome.state == "failed")
            found = table_of(out, listing, names)
            if share is None:
                _write_parquet(found.to_frame(), out / "table.parquet")
            return found
    except OSError as error:
        raise TrainingFailedError(f"could not write to {out}: {error}") from error


def _check_tasks(cells: Sequence[Cell]) -> None:
    """Refuse a sweep of which no cell has a task, as with a wrong name of data; if one has, the others' cells say so.

    Raises:
        MechmemError: that of the first cell.
    """
    first = None
    for config in dict.fromkeys(cell.config.task for cell in cells):
        try:
            build_task(config)
            return
        except MechmemError as error:
            first = first or error
    if first is not None:
        raise first


def _check_data(jobs: Sequence[Job], place: Place) -> None:
    """Refuse to go on in a directory some of whose runs were trained on files that have changed since.

    Raises:
        RunDirectoryError: a run was.
    """
    seen: set[object] = set()
    for job in jobs:
        data = getattr(job.config.task, "data", None)
        if data is None or data in seen or not started(place.run(job.digest)):
            continue
        seen.add(data)
        try:
            run = Run(place.run(job.digest))
        except RunDirectoryError:  # it is damaged, as its cell says
            continue
        with contextlib.suppress(ConfigError):  # they cannot be read: likewise
            run.task()


def check_sent(measurements: Sequence[Named]) -> None:
    """Refuse functions that cannot go to another process.

    Raises:
        ConfigError: one reads something that is only here, such as an open file or a lock.
    """
    for each in measurements:
        try:
            pickle.dumps(joblib.wrap_non_picklable_objects(each.what))
        except Exception as error:  # whatever an object raises that cannot be copied
            raise ConfigError(
                f"measure: {each.name!r} cannot be sent to another process ({reason(error)}): let it make what it "
                'needs itself, or use engine "inline"'
            ) from error


def check_share(share: tuple[int, int]) -> None:
    """Refuse a share that is none. Tasks may be counted from 0 or from 1.

    Raises:
        ConfigError: it is not (i, n) with n ≥ 1 and i from 0 to n.
    """
    number, count = share
    if count < 1 or not 0 <= number <= count:
        raise ConfigError(f"a share is i/n with i from 0 to n − 1, or from 1 to n; got {number}/{count}")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write the table for other programs; it is never read here."""
    # Parquet has one type per column: settings of several types are written as words.
    mixed = [name for name in frame if frame[name].dtype == "object" and len(set(map(type, frame[name]))) > 1]
    with files.whole_file(path) as temporary:
        frame.astype(dict.fromkeys(mixed, str)).to_parquet(temporary, index=False)
