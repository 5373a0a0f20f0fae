"""Run directories: config, checkpoints and history, each complete or absent.

config.json                         format, config, thread count, versions
checkpoints/step_N.safetensors      the network's state
checkpoints/step_N.optimizer.safetensors   the optimiser's state, for the newest checkpoint only
history.jsonl                       one line per evaluation
history.bits                        per evaluation, packed: prediction = given, prediction = true, for every id
finished.json                       last step and the reason why training ended
twins/                              twins, by a hash of their training
"""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from mechmem.core import storage
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError
from mechmem.models.hooks.running import device_of
from mechmem.models.networks.build import build_model
from mechmem.models.networks.masks import mask_layers
from mechmem.tasks.build import build_task
from mechmem.training.config import TrainConfig

FORMAT = 1


class Run:
    """A run on disk.

    Args:
        path: the directory.
        model: for a run recorded in a user-written loop, a network of the recorded shape; its weights are neither used
            nor changed.
        task: for such a run, its task.
        roles: for such a run, its roles.
        owner: object that must live as long as the run (the handle of a temporary directory).

    Raises:
        RunDirectoryError: the directory is missing, empty, damaged, or not a run of this format.
        MissingNeedError: the run was recorded in a user-written loop, and its model or task was not passed.
    """

    def __init__(
        self,
        path: str | Path,
        model: nn.Module | None = None,
        task: Task | None = None,
        roles: Roles = Roles(),
        owner: object = None,
    ):
        self._owner = owner
        self.path = Path(path)
        header = read_header(self.path)
        self.threads = int(header["threads"])
        try:
            self.config = None if header["config"] is None else TrainConfig.from_dict(header["config"])
        except (ConfigError, UnknownNameError) as error:
            raise RunDirectoryError(f"{path} has a damaged config: {error}") from error
        if self.config is not None and self.config.digest != header.get("digest"):
            raise RunDirectoryError(f"{self.path / 'config.json'} was changed after the run was started")
        self._model, self._task, self._roles = model, task, roles
        if self.config is None and (model is None or task is None):
            raise MissingNeedError(f"{path} was recorded in a user-written loop: pass its model= and task= to open it")
        if self._task is not None and self._task.digest != header["task"]:
            raise RunDirectoryError(f"{path} was recorded on another task ({header['task']}, not {self._task.digest})")

    def task(self) -> Task:
        """Return the run's task."""
        if self._task is None:
            assert self.config is not None
            self._task = build_task(self.config.task, recorded=True)
        return self._task

    def roles(self) -> Roles:
        """Return the roles of the network."""
        return self._roles if self.config is None else self._fresh().roles

    def _fresh(self) -> Any:
        assert self.config is not None
        return build_model(self.config.model, self.task(), self.config.seed)

    def checkpoint_steps(self) -> list[int]:
        """Return the steps with a saved state, in order."""
        names = (self.path / "checkpoints").glob("step_*.safetensors")
        numbers = [path.name.removeprefix("step_").removesuffix(".safetensors") for path in names]
        return sorted(int(number) for number in numbers if number.isdecimal())

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
        load_state(model, self._checkpoint(step))
        return model.eval()

    def _checkpoint(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step_{step}.safetensors"

    def finished(self) -> Mapping[str, Any] | None:
        """Return {"step", "reason"} of a finished run, or None."""
        path = self.path / "finished.json"
        return storage.read_json(path) if path.exists() else None

    def history(self) -> pd.DataFrame:
        """Return one row per evaluation: step, losses and accuracies per split (NaN if a split is empty)."""
        return pd.DataFrame(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """Return the history as written."""
        path = self.path / "history.jsonl"
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            raise RunDirectoryError(f"cannot read {path}: {error}") from error
        except ValueError as error:
            raise RunDirectoryError(f"{path} is damaged: {error}") from error
        if not all(isinstance(row, dict) and isinstance(row.get("step"), int) for row in rows):
            raise RunDirectoryError(f"{path} is damaged: a line is not an evaluation")
        if not rows and self.finished() is not None:
            raise RunDirectoryError(f"{path} is damaged: it is empty, although the run has finished")
        return rows

    def correctness(self) -> tuple[Bool[np.ndarray, "evaluation example"], Bool[np.ndarray, "evaluation example"]]:
        """Return, per evaluation and id, whether the prediction was the given label, and whether the true one."""
        n = len(self.task().ids)
        width = -(-n // 8)
        size = 2 * width * len(self.rows())
        # Bits are written before their line of the history, so a kill may leave bits without a line.
        packed = np.frombuffer(read_bits(self.path), dtype=np.uint8)[:size]
        if len(packed) != size:
            raise RunDirectoryError(f"{self.path / 'history.bits'} is shorter than the history; the run is damaged")
        bits = np.unpackbits(packed.reshape(-1, 2, width), axis=-1, count=n).astype(bool)
        return bits[:, 0], bits[:, 1]


def read_bits(path: Path) -> bytes:
    """Read `history.bits` of a run.

    Raises:
        RunDirectoryError: the file cannot be read.
    """
    try:
        return (path / "history.bits").read_bytes()
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path / 'history.bits'}: {error}") from error


def read_header(path: Path) -> dict[str, Any]:
    """Read and check `config.json` of a run.

    Raises:
        RunDirectoryError: it is missing, empty, damaged, or of another format.
    """
    if not path.is_dir():
        raise RunDirectoryError(
            f"{path} is not a run directory: {'it is a file' if path.exists() else 'it does not exist'}"
        )
    if not any(path.iterdir()):
        raise RunDirectoryError(f"{path} is empty, not a run directory")
    if not (path / "config.json").exists():
        raise RunDirectoryError(f"{path} holds something else: there is no config.json in it")
    header = storage.read_json(path / "config.json")
    if (
        not isinstance(header, dict)
        or header.get("format") != FORMAT
        or not {"config", "threads", "task"} <= set(header)
        or not isinstance(header["threads"], int)
        or header["threads"] < 1
        or not isinstance(header["config"], dict | None)
    ):
        raise RunDirectoryError(f"{path / 'config.json'} is not of run format {FORMAT}")
    return header


def write_header(path: Path, config: TrainConfig | None, task: Task) -> None:
    """Write the header of a new run directory."""
    storage.write_json(
        path / "config.json",
        {
            "format": FORMAT,
            "config": None if config is None else config.to_dict(),
            "digest": None if config is None else config.digest,
            "task": task.digest,
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        },
    )


def write_checkpoint(path: Path, step: int, model: nn.Module, optimizer: Mapping[str, Tensor] | None) -> None:
    """Save a state; the optimiser's is written first, so that every existing checkpoint can be resumed."""
    folder = path / "checkpoints"
    if optimizer is not None:
        storage.write_tensors(folder / f"step_{step}.optimizer.safetensors", optimizer)
    storage.write_tensors(folder / f"step_{step}.safetensors", model.state_dict())
    for old in folder.glob("step_*.optimizer.safetensors"):
        if optimizer is not None and old.name != f"step_{step}.optimizer.safetensors":
            old.unlink()


def load_state(model: nn.Module, path: Path) -> None:
    """Load a saved state into a model, in place.

    Raises:
        RunDirectoryError: the file is damaged, or holds a network of another shape.
    """
    saved = storage.read_tensors(path)
    current = model.state_dict()
    shapes = {name: tuple(t.shape) for name, t in saved.items()}
    expected = {name: tuple(t.shape) for name, t in current.items()}
    if shapes != expected:
        raise RunDirectoryError(f"{path} holds a network of another shape: {shapes}, expected {expected}")
    model.load_state_dict(saved)


def recorded_right(
    subject: Subject, ids: Int[Tensor, " example"], name: str
) -> tuple[Int[np.ndarray, " evaluation"], Bool[np.ndarray, "evaluation example"]]:
    """Return the steps at which a run was evaluated, and which examples' given labels were predicted at each.

    Args:
        subject: a network with its run.
        ids: the examples, without augmentation or as fixed views.
        name: name of the caller, for errors.

    Raises:
        MissingNeedError: there is no recorded run, or it is of another task.
        RunDirectoryError: the run is damaged.
    """
    run, task = subject.run, subject.task
    if not isinstance(run, Run):
        raise MissingNeedError(f"{name!r} needs a run that recorded which predictions were correct")
    if run.task().digest != task.digest:
        raise MissingNeedError(f"{name!r} needs a run on this task, {task.digest}; it was on {run.task().digest}")
    return run.history()["step"].to_numpy(np.int64, copy=True), run.correctness()[0][:, task.rows(ids).numpy()]
