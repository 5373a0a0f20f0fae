"""Recorder of history, checkpoints and observations, for mechmem's trainer and for user-written loops."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import Tensor, nn

from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.paths import TemporaryFolder, check_place
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.training.config import MOST_STEPS, Loss, TrainConfig, chosen_steps
from mechmem.training.evaluate import check_runs, evaluate
from mechmem.training.going_on import check_resumed, discard_before, opened
from mechmem.training.header import started
from mechmem.training.history import History, append, flush, no_history, write_history
from mechmem.training.observations import epochs_of
from mechmem.training.observer import Observer
from mechmem.training.optimizers import StateTensors
from mechmem.training.run import Run, write_checkpoint


class Recorder:
    """Evaluates and saves a network on a schedule during any training loop.

    Call it with the number of steps taken so far, from 0 to the last; at steps that are not due it does nothing.

        recorder = mm.Recorder(model, task, steps=1000, out="runs/mine")
        recorder(0)
        for step in range(1, 1001):
            ...  # your own update
            recorder(step)
        subject = mm.load("runs/mine", model=model, task=task)

    With `recorder.observe(ids, logits)` before each update and `recorder.end_epoch(step)`, it keeps what the training
    passes say of every training example: `subject.run.observations()`.

    Args:
        model: the network being trained.
        task: its task.
        steps: number of steps that will be taken.
        out: the run directory; None for a temporary one, which is deleted when the run is no longer used.
        roles: roles of the network's parts; they are recorded too.
        loss: the training loss, for the history's `train_loss`.
        evaluations: number of log-spaced evaluations after step 0, or the steps; without any, the end is evaluated.
        checkpoints: number of log-spaced checkpoints after step 0, or the steps themselves.
        resume: number of updates that the network had made when it was saved, and is again as it was; the loop goes on
            from there with the run in `out`, and what the run holds of later steps is deleted. None for a new run.

    Raises:
        ConfigError: there is no such loss, the number of steps is not positive, a step is not one of them, or the
            network does not run on the task's inputs.
        RunDirectoryError: the directory holds a run or something else, cannot be written, or another process writes to
            it; or there is no run to go on with, or not of this network as it was saved at that step.
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
        resume: int | None = None,
        config: TrainConfig | None = None,
    ):
        Subject(model, task, roles)  # which refuses a network that cannot be run
        self.model, self.task, self.roles, self.loss, self.config = model, task, roles, loss, config
        check_choice("loss", loss, get_args(Loss))
        check_whole("steps", steps, 1, MOST_STEPS)
        self.steps = steps
        check_resumed(out, resume, steps)
        self.evaluate_at = chosen_steps("evaluations", steps, evaluations)
        self.checkpoint_at = chosen_steps("checkpoints", steps, checkpoints)
        if config is None and self.evaluate_at:
            check_runs(model, task, roles.output)  # before there is a directory
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
                history = opened(self.run, self.path, model, task, roles, config, resume)
            except OSError as error:
                raise files.cannot_write(self.path, error) from error
            self._place = files.identity(self.path)
            # mechmem's own trainer holds the lock itself; a user's loop ends when nobody has its recorder any more.
            self._let_go = weakref.finalize(self, held.pop_all().close)
        self._run = self.run()
        self._history = history or no_history(self._run.header.run)
        self._observer: Observer | None = None
        self._last, self._ended = resume or 0, False

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
        self._history, self._last = history, step
        with self._writing(step):
            write_history(self.path, history)
            discard_before(self._run, step, self.checkpoint_at)

    @checked
    def catch_up(self, step: int) -> dict[str, Any] | None:
        """Return the history's row of a restored step; evaluate now if a kill came before it was written."""
        if self._history.rows and self._history.rows[-1]["step"] == step:
            return self.rows[-1]
        return self.evaluate(step) if step in self.evaluate_at else None

    def __call__(self, step: int, optimizer: StateTensors | None = None) -> dict[str, Any] | None:
        """Evaluate and save if this step is due.

        Args:
            step: number of updates made so far.
            optimizer: optimiser whose state is saved with the network's, so that the run can be resumed.

        Returns:
            the row added to the history, or None.

        Raises:
            ConfigError: the step is not one of 0 … `steps`, comes before one that has been recorded, or the run has
                ended.
        """
        step = self._checked(step)
        # Called after every step: at most of them, nothing else is looked at.
        return self._record(step, optimizer) if step in self.evaluate_at or step in self.checkpoint_at else None

    @checked
    def _record(self, step: int, optimizer: StateTensors | None) -> dict[str, Any] | None:
        row = self.evaluate(step) if step in self.evaluate_at else None
        if step in self.checkpoint_at:
            self.checkpoint(step, optimizer)
        return row

    @checked
    def evaluate(self, step: int) -> dict[str, Any]:
        """Evaluate now and append to the history.

        Raises:
            ConfigError: this step has already been evaluated, or a later one recorded; or the run has ended.
            TrainingFailedError: a loss is not a number, or the evaluation could not be written.
        """
        step = self._checked(step)
        last = self._history.rows[-1]["step"] if self._history.rows else -1
        if step <= last:
            raise _out_of_order(step, last)
        evaluation = evaluate(self.model, self.task, self.loss, self.roles.output)
        row = {"step": step, **evaluation.row}
        for name, value in row.items():
            if value is not None and not math.isfinite(value):
                raise TrainingFailedError(f"{name} is {value} at step {step}")
        bits = np.concatenate([np.packbits(evaluation.given.numpy()), np.packbits(evaluation.true.numpy())])
        history = self._history.added(row, bits.tobytes())
        with self._writing(step):
            append(self.path, history)
        self._history, self._last = history, step
        return row

    @checked
    def checkpoint(self, step: int, optimizer: StateTensors | None = None) -> None:
        """Save the network (and the optimiser) now.

        Raises:
            ConfigError: a later step has been recorded, or the run has ended.
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
                discard_before(self._run, step, self.checkpoint_at)
        self._last = step

    def observe(self, ids: Ids, logits: Tensor, labels: Tensor | None = None) -> None:
        """Note what a training pass says of the examples of a batch; it waits for nothing on the network's device.

        Args:
            ids: the training examples of the batch.
            logits: their logits before the update, one row each.
            labels: the labels that the batch gives them; they are compared with those of the task.

        Raises:
            ConfigError: the logits are not one row per example and one column per class, or are probabilities; an
                example is not one of the task's training examples, or its label is another than the task's or no whole
                number. Only the batch that is refused is not counted. Or the run has ended.
            TrainingFailedError: a logit of an earlier batch is NaN or infinite.
        """
        # Not `checked`, as it is called in every step.
        self._check_going_on()
        if self._observer is None:
            self._observer = Observer(self.task, self.path, self._run.header.run)
        self._observer.add(ids, logits, labels)

    def end_epoch(self, step: int) -> None:
        """Write what was observed since the last epoch ended; `step` is the number of updates made so far.

        Raises:
            ConfigError: nothing was observed, a batch is refused, a later step has been recorded, or the run has ended.
            TrainingFailedError: a logit is NaN or infinite, or the epoch could not be written.
        """
        step = self._checked(step)
        if self._observer is None or not self._observer.pending:
            raise ConfigError(f"no example was observed in the epoch that ended at step {step}")
        with self._writing(step):
            self._observer.end_epoch(step)
        self._last = step

    def _checked(self, step: int) -> int:
        check_whole("step", step, 0, self.steps)
        self._check_going_on()
        # mechmem's own trainer may go back to an earlier step, see `resume_at`.
        if step < self._last and self.config is None:
            raise _out_of_order(step, self._last)
        return int(step)  # numpy's integers are no JSON

    def _check_going_on(self) -> None:
        if self._ended:
            raise ConfigError("the run has ended: record another one with a new Recorder")

    @contextlib.contextmanager
    def _writing(self, step: int) -> Iterator[None]:
        try:
            files.check_in_place(self.path, self._place, f"before step {step} could be written")
            yield
        except OSError as error:
            raise TrainingFailedError(f"could not write to {self.path} at step {step}: {error}") from error

    @checked
    def finish(self, step: int, reason: str) -> None:
        """Mark the run as ended; the network is saved if it has not been at this step, and a begun epoch written.

        Raises:
            ConfigError: a later step has been recorded, the run has ended already, or there is no reason.
            TrainingFailedError: the end could not be written.
        """
        step = self._checked(step)
        if not reason:
            raise ConfigError("reason must say why the training ended, got ''")
        if self._observer is not None and self._observer.pending:
            self.end_epoch(step)
        if not self._history.rows:
            self.evaluate(step)
        if step not in self._run.checkpoint_steps():
            self.checkpoint(step)
        end = {"step": step, "reason": reason, "history": self._history.seal()}
        if epochs := epochs_of(self.path):
            end["epochs"] = len(epochs)
        with self._writing(step):
            files.write_hashed(self.path / "finished.json", end)
        self.close()

    def close(self) -> None:
        """Record nothing more, and leave the run directory to others; `finish` does it, too."""
        self._ended = True
        self._let_go()


def _out_of_order(step: int, last: int) -> ConfigError:
    return ConfigError(f"step {step} comes after step {last}; steps are recorded in order")
