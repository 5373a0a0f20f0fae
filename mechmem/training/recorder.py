"""Recorder of history and checkpoints, for mechmem's trainer and for user-written loops."""

from __future__ import annotations

import errno
import json
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
from torch import Tensor, nn

from mechmem.core import storage
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.roles import Roles
from mechmem.core.task import Task
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError
from mechmem.training.config import Loss, TrainConfig, log_schedule
from mechmem.training.evaluate import evaluate
from mechmem.training.run import Run, read_bits, write_checkpoint, write_header


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
        roles: roles of the network's parts.
        loss: the training loss, for the history's `train_loss`.
        evaluations: number of log-spaced evaluations after step 0, or the steps themselves.
        checkpoints: number of log-spaced checkpoints after step 0, or the steps themselves.

    Raises:
        ConfigError: there is no such loss, or the number of steps is not positive.
        RunDirectoryError: the directory is not empty, or cannot be written.
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
        self.model, self.task, self.roles, self.loss, self.config = model, task, roles, loss, config
        check_choice("loss", loss, get_args(Loss))
        check_whole("steps", steps, 1)
        self.steps = steps
        self.evaluate_at = _schedule(steps, evaluations)
        self.checkpoint_at = _schedule(steps, checkpoints)
        # A temporary directory lives as long as the run that reads it.
        self._temporary = None
        if out is None:
            self._temporary = TemporaryFolder()
            out = self._temporary.path
        self.path = Path(out)
        self.rows: list[dict[str, Any]] = []
        if (self.path / "config.json").exists():
            self._adopt()
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunDirectoryError(f"{self.path} holds something else; choose another directory")
        else:
            try:
                write_header(self.path, config, task)
                storage.write_text(self.path / "history.jsonl", "")
                (self.path / "history.bits").write_bytes(b"")
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise RunDirectoryError(f"cannot write to {self.path}: {error.strerror}") from error

    def _adopt(self) -> None:
        if self.config is None:
            raise RunDirectoryError(f"{self.path} already holds a run; choose another directory")

    def run(self) -> Run:
        """Return the run that is being written; it keeps a temporary directory alive."""
        return Run(self.path, self.model, self.task, self.roles, owner=self._temporary)

    def resume_at(self, step: int) -> None:
        """Return to a saved step, and discard all later evaluations and checkpoints."""
        # Before the first checkpoint there is nothing to keep, and after an early kill perhaps not even a history.
        rows = Run(self.path, self.model, self.task).rows() if step >= 0 else []
        self.rows = [row for row in rows if row["step"] <= step]
        width = 2 * -(-len(self.task.ids) // 8)
        bits = read_bits(self.path)[: width * len(self.rows)] if step >= 0 else b""
        if len(bits) != width * len(self.rows):
            raise RunDirectoryError(f"{self.path / 'history.bits'} is shorter than the history; the run is damaged")
        storage.write_text(self.path / "history.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))
        with storage.whole_file(self.path / "history.bits") as temporary:
            temporary.write_bytes(bits)

    def catch_up(self, step: int) -> dict[str, Any] | None:
        """Return the history's row of a restored step; evaluate now if a kill came before it was written."""
        if self.rows and self.rows[-1]["step"] == step:
            return self.rows[-1]
        return self.evaluate(step) if step in self.evaluate_at else None

    def __call__(self, step: int, optimizer: StateTensors | None = None) -> dict[str, Any] | None:
        """Evaluate and save if this step is due.

        Args:
            step: number of updates made so far.
            optimizer: optimiser whose state is saved with the network's, so that the run can be resumed.

        Returns:
            the row added to the history, or None.
        """
        row = self.evaluate(step) if step in self.evaluate_at else None
        if step in self.checkpoint_at:
            self.checkpoint(step, optimizer)
        return row

    def evaluate(self, step: int) -> dict[str, Any]:
        """Evaluate now and append to the history.

        Raises:
            ConfigError: this step or a later one has already been evaluated.
            TrainingFailedError: a loss is not a number.
        """
        if self.rows and step <= self.rows[-1]["step"]:
            raise ConfigError(f"step {step} comes after step {self.rows[-1]['step']}; steps are recorded in order")
        evaluation = evaluate(self.model, self.task, self.loss, self.roles.output)
        row = {"step": step, **evaluation.row}
        for name, value in row.items():
            if value is not None and not math.isfinite(value):
                raise TrainingFailedError(f"{name} is {value} at step {step}")
        bits = np.concatenate([np.packbits(evaluation.given.numpy()), np.packbits(evaluation.true.numpy())])
        # The bits first, so that every line of the history has them.
        with (self.path / "history.bits").open("ab") as file:
            file.write(bits.tobytes())
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self.rows.append(row)
        return row

    def checkpoint(self, step: int, optimizer: StateTensors | None = None) -> None:
        """Save the network (and the optimiser) now."""
        write_checkpoint(self.path, step, self.model, None if optimizer is None else optimizer.state_tensors())
        # A checkpoint that an interrupt saved between two scheduled steps is obsolete once the run is past it (in a
        # user-written loop it was requested, and stays).
        for old in self.run().checkpoint_steps() if self.config is not None else []:
            if old < step and old not in self.checkpoint_at:
                (self.path / "checkpoints" / f"step_{old}.safetensors").unlink()

    def finish(self, step: int, reason: str) -> None:
        """Mark the run as ended."""
        storage.write_json(self.path / "finished.json", {"step": step, "reason": reason})


class TemporaryFolder:
    """A directory that is deleted with this object, without the warning of `tempfile.TemporaryDirectory`."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="mechmem-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _schedule(steps: int, wanted: int | Iterable[int]) -> frozenset[int]:
    return frozenset(log_schedule(steps, wanted) if isinstance(wanted, int) else wanted)
