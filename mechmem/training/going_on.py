"""Beginning a run, and going on with that of a user's own loop: what it holds of steps taken again is deleted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import nn

from mechmem.core.config import check_whole
from mechmem.core.files import sweep
from mechmem.core.roles import Roles
from mechmem.core.task import Task
from mechmem.errors import RunDirectoryError
from mechmem.training.config import TrainConfig
from mechmem.training.header import NAMES, read_header, started, strangers, write_header
from mechmem.training.history import LINES, History, no_history, write_history
from mechmem.training.observations import FOLDER, PATTERN, epochs_of, keep_until
from mechmem.training.run import OPTIMIZER, STATE, Run


def check_resumed(path: str | Path | None, step: int | None, steps: int) -> None:
    """Check that there is a run to go on with from a step; from step 0 on it may also be new. Nothing is written.

    Args:
        path: the run directory; None for a temporary one.
        step: number of updates that were made before; None for a new run.
        steps: number of updates when the training will be over.

    Raises:
        ConfigError: it is not one of 0 … `steps`.
        RunDirectoryError: there is no run.
    """
    if step is not None:
        check_whole("resume", step, 0, steps)
    if step and path is None:
        raise RunDirectoryError(f"resume={step} goes on with the run in out, which was left out")
    if step and not started(Path(path or "")):
        raise RunDirectoryError(f"{path} holds no run to go on with; leave out resume={step} for a new one")


def step_of(path: str | Path | None, at: int) -> int | None:
    """Return the step from which a trainer's run goes on; None if it is recorded from here on, whatever was before."""
    return at if at and path is not None and started(Path(path)) else None


def opened(
    run: Callable[[], Run],
    path: Path,
    model: nn.Module,
    task: Task,
    roles: Roles,
    config: TrainConfig | None,
    resume: int | None,
) -> History | None:
    """Begin a run, or check that there is one to go on with; return the evaluations of one that is gone on with.

    Args:
        run: opens the run, once there is one.
        path: the run directory.
        model: the network.
        task: the task.
        roles: roles of the network's parts.
        config: the config of a run of `mm.train`; None for a user's loop.
        resume: number of updates that were made before, in a user's loop; None for a new run.

    Raises:
        RunDirectoryError: the directory holds another run, or something else, or was recorded with another network.
    """
    history = None
    if started(path) and not (config is None and only_begun(path)):
        if config is None and resume is not None:
            found = run()
            check_goes_on(found, model, resume)
            history = cut_back(found, resume)
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


def take_back(path: Path) -> None:
    """Take back what a user's loop recorded before its first update, so that another one can begin there."""
    for each in (path / "checkpoints").glob(f"step_0*{STATE}"):
        each.unlink()
    write_history(path, no_history(""))


def check_goes_on(run: Run, model: nn.Module, step: int) -> None:
    """Check that a user's loop can go on with a run and this network. Nothing is written.

    Raises:
        RunDirectoryError: it is a run of `mm.train`, damaged, or of another network: of another architecture, or with
            other weights than it saved at this step.
    """
    if run.config is not None:
        raise RunDirectoryError(f"{run.path} holds a run of mm.train; choose another directory")
    saved = run.checkpoint_steps()
    if not saved:
        return
    nearest = max((each for each in saved if each <= step), default=saved[0])
    stored, held = run.read_checkpoint(nearest, model), model.state_dict()
    other = [name for name, tensor in stored.items() if not torch.equal(tensor, held[name].cpu())]
    if nearest == step and other:
        raise RunDirectoryError(
            f"{run.path} was recorded with another network: at step {step} it saved other weights than the model has "
            f"({', '.join(other[:3])}{', …' if len(other) > 3 else ''}); load them before you go on, as from "
            f"mm.load({str(run.path)!r}, model=model, task=task, step={step}).model"
        )


def cut_back(run: Run, step: int) -> History:
    """Return a run to a step at which its loop had saved its network.

    Args:
        run: the run of a user's loop.
        step: number of updates that had been made.

    Returns:
        the evaluations up to that step.

    Raises:
        RunDirectoryError: it is damaged.
    """
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
