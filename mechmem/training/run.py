"""Run directories: config, checkpoints and history, each complete or absent.

config.json                         format, config, thread count, versions
checkpoints/step_N.safetensors      the network's state
checkpoints/step_N.optimizer.safetensors   the optimiser's state, for the newest checkpoint only
history.jsonl                       one line per evaluation
history.bits                        per evaluation, packed: prediction = given, prediction = true, for every id
observations/epoch_N.safetensors    what training passes said of each training example, if they were observed
finished.json                       last step and the reason why training ended
twins/                              twins, by a hash of their training

Each file but the packed predictions has a hash of its content and of the header's hash in it; a line of the history has
one of its predictions too.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from mechmem.core import files, storage
from mechmem.core.roles import Roles
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError, RunDirectoryError
from mechmem.models.hooks.running import as_configured, device_of
from mechmem.models.networks.build import build_model
from mechmem.models.networks.subnetworks import mask_layers
from mechmem.tasks.build import build_task
from mechmem.training.answers import answers_of
from mechmem.training.config import log_schedule
from mechmem.training.header import Header, read_header
from mechmem.training.history import History, read_history
from mechmem.training.observations import Observations, epochs_of, read_observations

STATE, OPTIMIZER = ".safetensors", ".optimizer.safetensors"
REMEDY = "; mm.train with the same config and directory trains what is missing again"


class Run:
    """A run on disk.

    Args:
        path: the directory.
        model: for a run recorded in a user-written loop, a network of the recorded shape; its weights are neither used
            nor changed.
        task: for such a run, its task.
        roles: for such a run, its roles; by default those that were recorded.
        owner: object that must live as long as the run (the handle of a temporary directory).

    Raises:
        RunDirectoryError: the directory is missing, empty, damaged, or not a run of this format, or its task is
            another one than it was started on.
        MissingNeedError: the run was recorded in a user-written loop, and its model or task was not passed.
    """

    def __init__(
        self,
        path: str | Path,
        model: nn.Module | None = None,
        task: Task | None = None,
        roles: Roles | None = None,
        owner: object = None,
    ):
        self._owner = owner
        self.path = Path(path).absolute()  # a change of the working directory does not move the run
        self.header: Header = read_header(self.path)
        self.config, self.threads = self.header.config, self.header.threads
        self._model, self._task, self._roles = model, task, roles or self.header.roles or Roles()
        if self.config is None and (model is None or task is None):
            raise MissingNeedError(f"{path} was recorded in a user-written loop: pass its model= and task= to open it")
        if task is not None:
            self._check_task(task)

    def _check_task(self, task: Task) -> None:
        recorded, given = self.header.task, task.digest
        if given != recorded and self.config is None:
            raise RunDirectoryError(f"{self.path} was recorded on another task ({recorded}, not {given})")
        if given != recorded:
            raise RunDirectoryError(
                f"{self.path} was started on another task ({recorded}, not {given}): its data have changed since"
            )

    def task(self) -> Task:
        """Return the run's task.

        Raises:
            ConfigError: its data cannot be read.
            RunDirectoryError: they are not those that the run was started on.
        """
        if self._task is None:
            assert self.config is not None
            task = build_task(self.config.task, recorded=True)
            self._check_task(task)
            self._task = task
        return self._task

    def roles(self) -> Roles:
        """Return the roles of the network."""
        return self._roles if self.config is None else self._fresh().roles

    def _fresh(self) -> Any:
        assert self.config is not None
        return build_model(self.config.model, self.task(), self.config.seed)

    def checkpoint_steps(self, kind: str = STATE) -> list[int]:
        """Return the steps with a saved state, in order: of the network, or with `kind=OPTIMIZER` of the optimiser."""
        names = (path.name for path in (self.path / "checkpoints").glob(f"step_*{kind}"))
        numbers = [name.removeprefix("step_").removesuffix(kind) for name in names]
        return sorted(int(number) for number in numbers if number.isdecimal())

    @as_configured()
    def model_at(self, step: int) -> nn.Module:
        """Return the network of a saved step, in evaluation mode.

        Raises:
            RunDirectoryError: there is no such checkpoint, or it is damaged or of another shape.
        """
        # Built anew if possible, not copied: hooks, frozen parameters and a chosen subnetwork of the trained network
        # are the user's settings for the current state.
        model = copy.deepcopy(self._model) if self.config is None else self._fresh()
        assert model is not None
        if self._model is not None:
            model.to(device_of(self._model))
        for layer in mask_layers(model):
            layer.part, layer.ids = None, None
        self.load_state(model, step)
        return model.eval()

    def checkpoint(self, step: int, kind: str = STATE) -> Path:
        """Return the path of a step's state, of the network or of the optimiser."""
        return self.path / "checkpoints" / f"step_{step}{kind}"

    def read_checkpoint(self, step: int, model: nn.Module, kind: str = STATE) -> dict[str, Tensor]:
        """Return a saved state of a network like `model`, or of its optimiser.

        Raises:
            RunDirectoryError: it is missing, damaged or far too large, of another step or run, or of a network of
                another shape or precision.
        """
        path = self.checkpoint(step, kind)
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        # An optimiser keeps up to two moments; a header takes at most 100 MB.
        stored = storage.read_stored(path, most=4 * size + 2**27)
        found = _shapes(stored.tensors)
        if kind == STATE and found != (expected := _shapes(model.state_dict())):
            names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
            differ = "; ".join(f"{each}: {found.get(each)}, expected {expected.get(each)}" for each in names[:3])
            raise RunDirectoryError(f"{path} holds a network of another shape or precision ({differ})")
        if not stored.hashed and self.header.hashed:
            raise RunDirectoryError(f"{path} is damaged: it has no hash, although the run was saved with hashes")
        wanted = about_checkpoint(self.header, step, kind)
        wrong = next((name for name in wanted if stored.about.get(name) != wanted[name]), None)
        if stored.hashed and wrong is not None:
            about = stored.about.get(wrong)
            raise RunDirectoryError(f"{path} is not of this checkpoint: its {wrong} is {about}, not {wanted[wrong]}")
        return stored.tensors

    def load_state(self, model: nn.Module, step: int) -> None:
        """Load the network's state at a step into a model, in place.

        Raises:
            RunDirectoryError: as `read_checkpoint` does.
        """
        model.load_state_dict(self.read_checkpoint(step, model))

    def finished(self) -> Mapping[str, Any] | None:
        """Return {"step", "reason"} of a finished run, or None."""
        end = self._end()
        return None if end is None else {"step": end["step"], "reason": end["reason"]}

    def _end(self) -> dict[str, Any] | None:
        path = self.path / "finished.json"
        if not path.exists():
            return None
        values, hashed = files.without_hash(path, files.read_object(path))
        if type(values.get("step")) is not int or not isinstance(values.get("reason"), str):
            raise RunDirectoryError(f"{path} is damaged: it does not say at which step the run ended, and why")
        if hashed != self.header.hashed and not hashed:
            raise RunDirectoryError(f"{path} is damaged: it has no hash, although the run was saved with hashes")
        return values

    def check(self, step: int) -> None:
        """Check before a checkpoint is used that no evaluation is missing, and that it is the last one if it seems so.

        Raises:
            RunDirectoryError: an evaluation is missing, or the last checkpoint of a finished run.
        """
        history, end, steps = self.whole_history(), self._end(), self.checkpoint_steps()
        if end is not None and step == steps[-1] < end["step"]:
            raise RunDirectoryError(f"{self.path} has lost its last checkpoint, of step {end['step']}")
        if not self.complete(history, steps[-1]):
            raise RunDirectoryError(f"{self.path} has lost evaluations{REMEDY if self.config is not None else ''}")

    def complete(self, history: History, step: int) -> bool:
        """Return whether a history has every evaluation up to a checkpoint, as far as can be told.

        The evaluation at the step itself is made after the checkpoint if that was saved by an interrupt.
        """
        end = self._end()
        if end is not None and end["step"] == step and end.get("history", history.seal()) != history.seal():
            return False
        if self.config is not None:
            due = [each for each in log_schedule(self.config.steps, self.config.evaluations) if each < step]
            if due != [row["step"] for row in history.rows if row["step"] < step]:
                return False
        seal = storage.read_about(self.checkpoint(step)).get("history")
        return seal is None or history.begins_as(seal)

    def read_history(self) -> History:
        """Return the evaluations up to the first that cannot be trusted."""
        width = 2 * -(-(self.header.examples or len(self.task().ids)) // 8)
        return read_history(self.path, self.header.run, width, hashed=self.header.hashed)

    def whole_history(self) -> History:
        """Return every evaluation.

        Raises:
            RunDirectoryError: one was lost, changed, repeated or moved, as far as later ones tell.
        """
        history, remedy = self.read_history(), REMEDY if self.config is not None else ""
        if history.fault:
            raise RunDirectoryError(f"{self.path / 'history.jsonl'} is damaged: {history.fault}{remedy}")
        if not history.rows and self.finished() is not None:
            raise RunDirectoryError(
                f"{self.path / 'history.jsonl'} is damaged: it is empty, although the run has finished"
            )
        return history

    def history(self) -> pd.DataFrame:
        """Return one row per evaluation: step, losses and accuracies per split (NaN if a split is empty)."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return the history as plain values."""
        return [dict(row) for row in self.whole_history().rows]

    def correctness(self) -> tuple[Bool[np.ndarray, "evaluation example"], Bool[np.ndarray, "evaluation example"]]:
        """Return, per evaluation and id, whether the prediction was the given label, and whether the true one."""
        n = len(self.task().ids)
        packed = np.frombuffer(b"".join(self.whole_history().bits), dtype=np.uint8)
        bits = np.unpackbits(packed.reshape(-1, 2, -(-n // 8)), axis=-1, count=n).astype(bool)
        return bits[:, 0], bits[:, 1]

    @property
    def observed(self) -> bool:
        """Whether training passes were observed, by `Recorder.observe` or a callback of a trainer."""
        return bool(epochs_of(self.path))

    def observations(self) -> Observations:
        """Return what the training passes said of each training example in each epoch.

        Raises:
            MissingNeedError: they were not observed.
            RunDirectoryError: an epoch is missing or damaged.
        """
        written = (self._end() or {}).get("epochs", 0)
        if not self.observed and not written:
            raise MissingNeedError(f"{self.path} has no observations: its training passes were not observed")
        return read_observations(self.path, self.header.run, self.task().train_ids, written)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


def about_checkpoint(header: Header, step: int, kind: str) -> dict[str, Any]:
    """Return what a file of `checkpoints/` says of itself."""
    return {"run": header.run, "step": step, "state of": "optimiser" if kind == OPTIMIZER else "network"}


def write_checkpoint(
    run: Run, step: int, model: nn.Module, optimizer: Mapping[str, Tensor] | None, history: History
) -> None:
    """Save a state; the optimiser's is written first, so that every existing checkpoint can be resumed.

    Args:
        run: the run.
        step: number of updates made.
        model: the network.
        optimizer: the optimiser's state, or None.
        history: the evaluations that the checkpoint vouches for.
    """
    if optimizer is not None:
        storage.write_tensors(run.checkpoint(step, OPTIMIZER), optimizer, about_checkpoint(run.header, step, OPTIMIZER))
    about = {**about_checkpoint(run.header, step, STATE), "history": history.seal()}
    if run.config is None:
        about["logits"] = answers_of(model, run.task(), run.roles().output)
    storage.write_tensors(run.checkpoint(step), model.state_dict(), about)
