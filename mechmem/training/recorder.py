"""History and checkpoints, for mechmem's own trainer and for a user's own loop alike."""

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
from mechmem.core.config import check_choice, check_whole
from mechmem.core.roles import Roles
from mechmem.core.task import Task
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError
from mechmem.training.config import Loss, TrainConfig, log_schedule
from mechmem.training.evaluate import evaluate
from mechmem.training.run import Run, read_bits, write_checkpoint, write_header


class StateTensors(Protocol):
    """Anything that can hand out its state as named tensors."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state."""
        ...


class Recorder:
    """Evaluates and saves a network on a schedule, while somebody else trains it.

    Call it with the number of steps taken so far, from 0 to the last; it does nothing at steps that are not due.

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
        out: the run directory; None for a temporary one that goes when the run is no longer used.
        roles: what the network's parts are for.
        loss: the training loss, for the history's `train_loss`.
        evaluations: number of log-spaced evaluations after step 0, or the steps themselves.
        checkpoints: number of log-spaced checkpoints after step 0, or the steps themselves.

    Raises:
        ConfigError: there is no such loss, or the number of steps is not positive.
        RunDirectoryError: the directory already holds something, or cannot be written.
    """

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
        # Without a directory of the user's, a temporary one lives as long as the run that reads it.
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
        """Return the run being written; it keeps a temporary directory alive."""
        return Run(self.path, self.model, self.task, self.roles, owner=self._temporary)

    def resume_at(self, step: int) -> None:
        """Go back to a saved step: forget whatever was evaluated or saved after it."""
        # Before the first checkpoint there is nothing to keep, and where a kill came early not even a history.
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
        """Return the history's row of a step just restored, evaluating now where a kill came before it was written."""
        if self.rows and self.rows[-1]["step"] == step:
            return self.rows[-1]
        return self.evaluate(step) if step in self.evaluate_at else None

    def __call__(self, step: int, optimizer: StateTensors | None = None) -> dict[str, Any] | None:
        """Evaluate and save, where this step is due.

        Args:
            step: number of updates made so far.
            optimizer: whose state is saved beside the network's, so that the run can be resumed.

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
            ConfigError: this step, or a later one, has been evaluated.
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
        # The side file first: a line in the history then always has its bits.
        with (self.path / "history.bits").open("ab") as file:
            file.write(bits.tobytes())
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self.rows.append(row)
        return row

    def checkpoint(self, step: int, optimizer: StateTensors | None = None) -> None:
        """Save the network (and the optimiser) now."""
        write_checkpoint(self.path, step, self.model, None if optimizer is None else optimizer.state_tensors())
        # What an interrupt saved between two scheduled steps has served its purpose once the run is past it (in a loop
        # of the user's own it was they who asked for it).
        for old in self.run().checkpoint_steps() if self.config is not None else []:
            if old < step and old not in self.checkpoint_at:
                (self.path / "checkpoints" / f"step_{old}.safetensors").unlink()

    def finish(self, step: int, reason: str) -> None:
        """Mark the run as ended."""
        storage.write_json(self.path / "finished.json", {"step": step, "reason": reason})


class TemporaryFolder:
    """A directory that goes when this object does, without the warning of `tempfile.TemporaryDirectory`."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="mechmem-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _schedule(steps: int, wanted: int | Iterable[int]) -> frozenset[int]:
    return frozenset(log_schedule(steps, wanted) if isinstance(wanted, int) else wanted)
