"""Recorder of history and checkpoints, for mechmem's trainer and for user-written loops."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, get_args, runtime_checkable

import numpy as np
from torch import Tensor, nn

from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.paths import check_place
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError
from mechmem.training.config import MOST_SAVED, MOST_STEPS, Loss, TrainConfig, log_schedule
from mechmem.training.evaluate import evaluate
from mechmem.training.header import NAMES, read_header, started, strangers, write_header
from mechmem.training.history import LINES, History, append, flush, no_history, write_history
from mechmem.training.run import OPTIMIZER, STATE, Run, write_checkpoint


@runtime_checkable
class StateTensors(Protocol):
    """Anything with a state of named tensors."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state."""
        ...


class Recorder:
    """Evaluates and saves a network on a schedule during any training loop.

    Call it with the number of steps taken so far, from 0 to the last; at steps that are not due it does nothing.

        recorder = mm.Recorder(model, task, steps=1000, out="runs/mine")
        recorder(0)
        for step in range(1, 1001):
            ...  # your own update
            recorder(step)
        subject = mm.load("runs/mine", model=model, task=task)

    Args:
        model: the network being trained.
        task: its task.
        steps: number of steps that will be taken.
        out: the run directory; None for a temporary one, which is deleted when the run is no longer used.
        roles: roles of the network's parts; they are recorded too.
        loss: the training loss, for the history's `train_loss`.
        evaluations: number of log-spaced evaluations after step 0, or the steps themselves.
        checkpoints: number of log-spaced checkpoints after step 0, or the steps themselves.

    Raises:
        ConfigError: there is no such loss, the number of steps is not positive, or a step is not one of them.
        RunDirectoryError: the directory holds a run or something else, cannot be written, or another process writes to
            it.
        TrainingFailedError: the disk is full.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        task: Task,
        *,
        steps: int,
        out: str | Path | None = None,
        roles: Roles = Roles(),
        loss: str = "cross_entropy",
        evaluations: int | Iterable[int] = 60,
        checkpoints: int | Iterable[int] = 12,
        config: TrainConfig | None = None,
    ):
        Subject(model, task, roles)  # which refuses a network that cannot be run
        self.model, self.task, self.roles, self.loss, self.config = model, task, roles, loss, config
        check_choice("loss", loss, get_args(Loss))
        check_whole("steps", steps, 1, MOST_STEPS)
        self.steps = steps
        self.evaluate_at = _schedule("evaluations", steps, evaluations)
        self.checkpoint_at = _schedule("checkpoints", steps, checkpoints)
        # A temporary directory lives as long as the run that reads it.
        self._temporary = None
        if out is None:
            self._temporary = TemporaryFolder()
            out = self._temporary.path
        elif not started(Path(out)):
            check_place(out)
        self.path = Path(out).absolute()
        with contextlib.ExitStack() as held:
            if config is None:
                held.enter_context(files.alone(self.path))
            try:
                self._open()
            except OSError as error:
                raise files.cannot_write(self.path, error) from error
            self._place = files.identity(self.path)
            # mechmem's own trainer holds the lock itself; a user's loop ends when nobody has its recorder any more.
            weakref.finalize(self, held.pop_all().close)
        self._run = self.run()
        self._history = no_history(self._run.header.run)

    def _open(self) -> None:
        """Begin a run, or check that there is one to go on with."""
        if started(self.path) and not (self.config is None and self._only_begun()):
            if self.config is None:
                raise RunDirectoryError(f"{self.path} already holds a run; choose another directory")
        elif not started(self.path) and strangers(self.path):
            raise RunDirectoryError(f"{self.path} holds something else; choose another directory")
        else:
            write_header(self.path, self.config, self.task, self.roles)
            write_history(self.path, no_history(""))
        files.sweep(self.path, *NAMES)
        files.sweep(self.path / "checkpoints", f"step_*{STATE}")

    def _only_begun(self) -> bool:
        """Return whether a user's loop was killed in this directory before it had recorded anything."""
        lines = self.path / LINES
        recorded = (lines.exists() and lines.stat().st_size) or any(self.path.glob(f"checkpoints/*{STATE}"))
        return not recorded and read_header(self.path).config is None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The evaluations so far."""
        return [dict(row) for row in self._history.rows]

    def run(self) -> Run:
        """Return the run that is being written; it keeps a temporary directory alive."""
        return Run(self.path, self.model, self.task, self.roles, owner=self._temporary)

    @checked
    def resume_at(self, step: int, history: History) -> None:
        """Return to a saved step, and discard all later evaluations.

        Args:
            step: the step.
            history: the evaluations that are kept, up to that step.
        """
        self._history = history
        with self._writing(step):
            write_history(self.path, history)
            self._discard_before(step)

    @checked
    def catch_up(self, step: int) -> dict[str, Any] | None:
        """Return the history's row of a restored step; evaluate now if a kill came before it was written."""
        if self._history.rows and self._history.rows[-1]["step"] == step:
            return self.rows[-1]
        return self.evaluate(step) if step in self.evaluate_at else None

    @checked
    def __call__(self, step: int, optimizer: StateTensors | None = None) -> dict[str, Any] | None:
        """Evaluate and save if this step is due.

        Args:
            step: number of updates made so far.
            optimizer: optimiser whose state is saved with the network's, so that the run can be resumed.

        Returns:
            the row added to the history, or None.

        Raises:
            ConfigError: the step is not one of 0 … `steps`, or comes before one that has been evaluated.
        """
        step = self._checked(step)
        row = self.evaluate(step) if step in self.evaluate_at else None
        if step in self.checkpoint_at:
            self.checkpoint(step, optimizer)
        return row

    @checked
    def evaluate(self, step: int) -> dict[str, Any]:
        """Evaluate now and append to the history.

        Raises:
            ConfigError: this step or a later one has already been evaluated.
            TrainingFailedError: a loss is not a number, or the evaluation could not be written.
        """
        step = self._checked(step)
        last = self._history.rows[-1]["step"] if self._history.rows else -1
        if step <= last:
            raise ConfigError(f"step {step} comes after step {last}; steps are recorded in order")
        evaluation = evaluate(self.model, self.task, self.loss, self.roles.output)
        row = {"step": step, **evaluation.row}
        for name, value in row.items():
            if value is not None and not math.isfinite(value):
                raise TrainingFailedError(f"{name} is {value} at step {step}")
        bits = np.concatenate([np.packbits(evaluation.given.numpy()), np.packbits(evaluation.true.numpy())])
        history = self._history.added(row, bits.tobytes())
        with self._writing(step):
            append(self.path, history)
        self._history = history
        return row

    @checked
    def checkpoint(self, step: int, optimizer: StateTensors | None = None) -> None:
        """Save the network (and the optimiser) now.

        Raises:
            TrainingFailedError: they could not be written.
        """
        step = self._checked(step)
        # An interrupt may save a step before it is evaluated, which the resumed run does.
        history = self._history if self.config is None else self._history.up_to(step - 1)
        state = None if optimizer is None else optimizer.state_tensors()
        with self._writing(step):
            flush(self.path)
            write_checkpoint(self._run, step, self.model, state, history)
            if state is not None:
                self._discard_before(step)

    def _checked(self, step: int) -> int:
        check_whole("step", step, 0, self.steps)
        return int(step)  # numpy's integers are no JSON

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        try:
            files.check_in_place(self.path, self._place, f"before step {step} could be written")
            yield
        except OSError as error:
            raise TrainingFailedError(f"could not write to {self.path} at step {step}: {error}") from error

    def _discard_before(self, step: int) -> None:
        """Delete what a saved step makes obsolete: earlier states of the optimiser, and what an interrupt saved."""
        for old in self._run.checkpoint_steps(OPTIMIZER):
            if old < step:
                self._run.checkpoint(old, OPTIMIZER).unlink()
        # In a user-written loop a checkpoint between two scheduled steps was asked for, and stays.
        for old in self._run.checkpoint_steps() if self.config is not None else []:
            if old < step and old not in self.checkpoint_at:
                self._run.checkpoint(old).unlink()

    @checked
    def finish(self, step: int, reason: str) -> None:
        """Mark the run as ended; the network is saved if it has not been at this step."""
        step = self._checked(step)
        if step not in self._run.checkpoint_steps():
            self.checkpoint(step)
        end = {"step": step, "reason": reason, "history": self._history.seal()}
        with self._writing(step):
            files.write_hashed(self.path / "finished.json", end)


class TemporaryFolder:
    """A directory that is deleted with this object, without the warning of `tempfile.TemporaryDirectory`."""

    def __init__(self):
        with files.written("the directory of temporary files"):
            self.path = tempfile.mkdtemp(prefix="mechmem-")
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the object too
        shutil.rmtree(path, ignore_errors=True)


def _schedule(name: str, steps: int, wanted: int | Iterable[int]) -> frozenset[int]:
    """Return the steps at which something is done: so many, or those that are given."""
    if isinstance(wanted, int | np.integer):
        check_whole(name, int(wanted), 1, MOST_SAVED)
        return frozenset(log_schedule(steps, int(wanted)))
    chosen = list(itertools.islice(wanted, MOST_SAVED + 1))
    if len(chosen) > MOST_SAVED:
        raise ConfigError(f"{name} must be at most {MOST_SAVED:,} steps, got more")
    for step in chosen:
        check_whole(f"a step of {name}", step, 0, steps)
    return frozenset(map(int, chosen))
