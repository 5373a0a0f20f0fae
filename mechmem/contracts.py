"""The words that every part of mechmem speaks: predictor, task, roles, recipe, run, subject."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.fingerprint import fingerprint
from mechmem.group_contract import Group
from mechmem.roles import Roles

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

Ids = Int[Tensor, " _"] | Sequence[int | np.integer] | Int[np.ndarray, " _"]
"""What `mechmem.example_ids` takes for a list of ids: a tensor, a list, a range or an array of whole numbers."""

Predictor = Callable[[Int[Tensor, " example"]], Float[Tensor, "example class"]]
"""Scores for examples by id. It is called once with all training ids and once with all test ids, never with one
split of the training set: the choice of ids must not tell it which labels are wrong."""


class Task(abc.ABC):
    """Examples by stable id: inputs, the labels given in training, the truth, and the split.

    Attributes:
        n_classes: number of classes.
        ids: every id the task can make inputs for, labelled or not (the whole grid for modular arithmetic).
        train_ids: ids of the training set.
        test_ids: ids of the held-out set.
        augmented: whether `batch(ids, step)` makes another view of its inputs at every step.
    """

    n_classes: int
    ids: Int[Tensor, " example"]
    train_ids: Int[Tensor, " example"]
    test_ids: Int[Tensor, " example"]
    operands: Int[Tensor, "example 2"] | None = None
    group: Group | None = None
    operation: str | None = None
    augmented: bool = False

    @property
    def sources(self) -> Int[Tensor, " example"]:
        """Ids of the training examples without augmentation: what probes of layers are fitted to."""
        return self.train_ids

    def source(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the ids of the examples that these are fixed views of; of any other example its own."""
        return ids

    @abc.abstractmethod
    def batch(
        self, ids: Int[Tensor, " example"], step: int | None = None
    ) -> tuple[Shaped[Tensor, "example ..."], Int[Tensor, " example"]]:
        """Return model inputs and given labels of these ids; `step` picks the augmented view, where there is one."""

    @abc.abstractmethod
    def true(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"] | None:
        """Return true labels of these ids, or None where the truth is not known for all of them."""

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """Hash of everything that defines the task; part of every artifact made from it."""

    @property
    def summary(self) -> dict[str, Any]:
        """Plain values that describe the task in a scorecard."""
        return {"classes": self.n_classes, "n_train": len(self.train_ids), "n_test": len(self.test_ids)}

    def given(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the labels given in training (on test ids, the true ones)."""
        return self.batch(ids)[1]

    @functools.cached_property
    def _order(self) -> torch.Tensor:
        return torch.argsort(self.ids)

    def rows(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the positions of these ids in `ids` (and so in `operands`).

        Raises:
            UnknownNameError: an id is not one of the task's.
        """
        place = torch.searchsorted(self.ids[self._order], ids.contiguous()).clamp(max=len(self.ids) - 1)
        rows = self._order[place]
        other = ids[self.ids[rows] != ids]
        if len(other):
            raise UnknownNameError(f"no example id {other[0]}: this task's lie in {self.ids.min()} … {self.ids.max()}")
        return rows

    @functools.cached_property
    def noisy(self) -> torch.Tensor | None:
        """Which training examples carry a false label, in the order of `train_ids`; None where not known."""
        truth = self.true(self.train_ids)
        return None if truth is None else truth != self.given(self.train_ids)

    @functools.cached_property
    def splits(self) -> dict[str, Int[Tensor, " example"] | None]:
        """Ids of `train_clean`, `train_noisy` and `test`; None for a split that cannot be known."""
        noisy = self.noisy
        return {
            "train_clean": None if noisy is None else self.train_ids[~noisy],
            "train_noisy": None if noisy is None else self.train_ids[noisy],
            "test": self.test_ids,
        }

    @property
    def symbols(self) -> int:
        """How many symbols an operand can take; the grid of inputs has this side.

        Raises:
            MissingNeedError: the inputs are not pairs.
        """
        if self.operands is None:
            raise MissingNeedError("this task's inputs are not pairs of symbols")
        return int(self.operands.max()) + 1

    def cell(self, a: int, b: int) -> int:
        """Return the id of the input pair (a, b).

        Raises:
            MissingNeedError: the inputs are not pairs.
            UnknownNameError: there is no such pair.
        """
        if self.operands is None:
            raise MissingNeedError("this task's inputs are not pairs of symbols")
        found = self.ids[(self.operands == torch.tensor([a, b])).all(1)]
        if len(found) != 1:
            raise UnknownNameError(f"{len(found)} examples are the pair ({a}, {b}), not one")
        return int(found[0])


TwinKind = Literal["untrained", "one_step", "noise_only", "clean_labels"]


class Recipe(Protocol):
    """How a model was trained, so that its controls can be made."""

    def twin(self, kind: TwinKind, *, progress: bool = False) -> nn.Module:
        """Return the twin of the same initialisation; "noise_only" labels are uniform, "clean_labels" true."""
        ...

    def retrained(
        self, *, without: Int[Tensor, " example"] | None = None, seed: int | None = None, progress: bool = False
    ) -> nn.Module:
        """Return the network trained again: without some training examples, or with another seed than its own."""
        ...


class RunFiles(Protocol):
    """What plugins may read from a run directory."""

    @property
    def path(self) -> Path: ...  # noqa: D102

    def history(self) -> pd.DataFrame:
        """One row per evaluation: step, losses, accuracies."""
        ...

    def finished(self) -> Mapping[str, Any] | None:
        """{"step", "reason"} of a run that has ended: why, where it was before its last step."""
        ...

    def checkpoint_steps(self) -> list[int]:
        """Steps with a saved state."""
        ...

    def model_at(self, step: int) -> nn.Module:
        """The model as it was at a saved step."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """What every plugin takes: a model, its task, what its parts are for, and where it came from.

    What is computed of the model is kept until its parameters, buffers, submodules or hooks are others or hold other
    values. A changed plain attribute (`model.scale = 2`) or `forward` cannot be seen: make a new subject after that.

    Attributes:
        model: the network; plugins never change it (surgeries copy it).
        task: the data it was trained on.
        roles: what its parameters and points are for.
        run: the run directory it came from, or None.
        recipe: how to train its twins, or None.
        name: how it is called in tables and reports.
    """

    model: nn.Module
    task: Task
    roles: Roles = Roles()
    run: RunFiles | None = None
    recipe: Recipe | None = None
    name: str = "network"
    _memo: dict[str, tuple[Any, Any]] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def memo(self, key: str, compute: Callable[[], T]) -> T:
        """Compute something of this subject once, and again once its model has changed."""
        state = fingerprint(self.model)
        if key not in self._memo or self._memo[key][0] != state:
            self._memo[key] = state, compute()
        return self._memo[key][1]

    def with_model(self, model: nn.Module) -> Subject:
        """Return the same subject with another model; nothing computed from the old one is kept."""
        return dataclasses.replace(self, model=model)

    def copy_model(self) -> nn.Module:
        """Return a deep copy of the model for a surgery to change."""
        return copy.deepcopy(self.model)


def subject_of(model: nn.Module | Subject, task: Task | None = None, roles: Roles | None = None) -> Subject:
    """Return what a call was given as a subject: a subject as it is, or a model with its task.

    Args:
        model: a subject, or a network.
        task: the network's task; goes with a network only.
        roles: the network's roles; by default its own attribute `roles`, where it has one.

    Raises:
        ConfigError: a network without a task, or a subject with one.
    """
    if isinstance(model, Subject):
        if task is not None or roles is not None:
            raise ConfigError("a Subject has its own task and roles; pass a bare model to name others")
        return model
    if not isinstance(model, nn.Module) or task is None:
        other = "no task" if task is None else "a task"
        raise ConfigError(f"expected a Subject, or a model with its task; got {type(model).__name__} and {other}")
    own = getattr(model, "roles", None)
    return Subject(model, task, roles or (own if isinstance(own, Roles) else Roles()))
