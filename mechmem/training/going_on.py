"""Beginning a run, and going on with that of a user's own loop: what it holds of steps taken again is deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from mechmem.core.files import sweep
from mechmem.core.roles import Roles
from mechmem.core.task import Task
from mechmem.errors import RunDirectoryError
from mechmem.training.config import TrainConfig
from mechmem.training.header import NAMES, read_header, started, strangers, write_header
from mechmem.training.history import LINES, History, no_history, write_history
from mechmem.training.observations import FOLDER, PATTERN, epochs_of, keep_until
from mechmem.training.run import OPTIMIZER, STATE, Run


def opened(
    run: Callable[[], Run], path: Path, config: TrainConfig | None, task: Task, roles: Roles, resume: int | None
) -> History | None:
    """Begin a run, or check that there is one to go on with; return the evaluations of one that is gone on with.

    Args:
        run: opens the run, once there is one.
        path: the run directory.
        config: the config of a run of `mm.train`; None for a user's loop.
        task: the task.
        roles: roles of the network's parts.
        resume: number of updates that were made before, in a user's loop; None for a new run.

    Raises:
        RunDirectoryError: the directory holds another run, or something else.
    """
    history = None
    if started(path) and not (config is None and only_begun(path)):
        if config is None and resume is not None:
            history = cut_back(run(), resume)
        elif config is None:
            raise RunDirectoryError(f"{path} already holds a run; choose another directory")
    elif not started(path) and strangers(path):
        raise RunDirectoryError(f"{path} holds something else; choose another directory")
    else:
        write_header(path, config, task, roles)
        write_history(path, no_history(""))
    sweep(path, *NAMES)
    sweep(path / "checkpoints", f"step_*{STATE}")
    sweep(path / FOLDER, PATTERN)
    return history


def only_begun(path: Path) -> bool:
    """Return whether a user's loop was killed in a run directory before it had recorded anything."""
    lines = path / LINES
    recorded = (lines.exists() and lines.stat().st_size) or any(path.glob(f"checkpoints/*{STATE}")) or epochs_of(path)
    return not recorded and read_header(path).config is None


def cut_back(run: Run, step: int) -> History:
    """Return a run to a step at which its loop had saved its network.

    Args:
        run: the run of a user's loop.
        step: number of updates that had been made.

    Returns:
        the evaluations up to that step.

    Raises:
        RunDirectoryError: it is a run of `mm.train`, or damaged.
    """
    if run.config is not None:
        raise RunDirectoryError(f"{run.path} holds a run of mm.train; choose another directory")
    history = run.read_history().up_to(step)
    (run.path / "finished.json").unlink(missing_ok=True)
    write_history(run.path, history)
    for saved in run.checkpoint_steps():
        if saved > step:
            run.checkpoint(saved).unlink()
    keep_until(run.path, run.header.run, step)
    return history


def discard_before(run: Run, step: int, kept: Collection[int]) -> None:
    """Delete what a saved step makes obsolete: earlier states of the optimiser, and what an interrupt saved.

    Args:
        run: the run.
        step: the step that was saved.
        kept: steps whose checkpoints stay.
    """
    for old in run.checkpoint_steps(OPTIMIZER):
        if old < step:
            run.checkpoint(old, OPTIMIZER).unlink()
    # In a user-written loop a checkpoint between two scheduled steps was asked for, and stays.
    for old in run.checkpoint_steps() if run.config is not None else []:
        if old < step and old not in kept:
            run.checkpoint(old).unlink()
