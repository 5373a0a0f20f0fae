"""Task: examples by stable id, their labels and splits; and the types of ids and predictors."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.arrays import described
from mechmem.core.config import check_whole
from mechmem.core.group import Group
from mechmem.core.in_words import shown
from mechmem.core.inputs import Inputs
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

T = TypeVar("T")

NAMES_SHOWN = 10
"""Most names of classes in a task's repr."""

Ids = Int[Tensor, " _"] | Sequence[int | np.integer] | Int[np.ndarray, " _"]
"""Example ids as every function accepts them: a tensor, a list, a tuple, a range or an array of whole numbers."""

Predictor = Callable[[Int[Tensor, " example"]], Float[Tensor, "example class"]]
"""Logits of examples by id. It is called once with all training ids and once with all test ids, never with one split
of the training set: the choice of ids must not reveal which labels are wrong."""


def whole_ids(ids: Ids, name: str = "ids", *, some: bool = False) -> Int[Tensor, " example"]:
    """Return example ids, in whatever form they are given, as a tensor on the CPU.

    Args:
        ids: the ids.
        name: the caller's name for the argument.
        some: whether there must be at least one.

    Raises:
        ConfigError: they are not whole numbers in one dimension, are a mask, or there is none although there must be.
    """
    if isinstance(ids, Tensor) and ids.device.type == "meta":
        raise ConfigError(f"{name} is on the meta device, where tensors hold no numbers")
    try:
        found = ids if isinstance(ids, Tensor) else torch.tensor(np.asarray(ids))
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(())
    if found.dtype == torch.bool and found.ndim == 1:
        raise ConfigError(
            f"{name} must be whole numbers, got a mask of {len(found)} values: task.ids[mask] are its ids"
        )
    whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
    if found.ndim != 1 or (some and not len(found)) or (len(found) and not whole):
        wanted = "at least one example id, whole numbers in one dimension" if some else "whole numbers, one per example"
        array = isinstance(ids, Tensor | np.ndarray)
        raise ConfigError(f"{name} must be {wanted}, got {described(found) if array else shown(ids)}")
    return found.long().cpu()


def check_places(ids: Ids, n: int) -> Int[Tensor, " example"]:
    """Return ids that are the places 0 … n − 1 of a task's arrays; a negative one would be read from their end.

    Raises:
        ConfigError: they are not whole numbers.
        UnknownNameError: an id is not one of the task's.
    """
    found = whole_ids(ids)
    if len(found):
        least, greatest = found.aminmax()
        if least < 0 or greatest >= n:
            wrong = int(least if least < 0 else greatest)
            raise UnknownNameError(f"no example id {wrong}: this task's lie in 0 … {n - 1}")
    return found


class Task(abc.ABC):
    """Examples by stable id: inputs, given labels, true labels and the split.

    Attributes:
        n_classes: number of classes.
        ids: every id for which the task has inputs, labelled or not (the whole grid for modular arithmetic).
        train_ids: ids of the training set.
        test_ids: ids of the held-out set.
        augmented: whether `batch(ids, step)` returns another view of its inputs at every step.
        data_digest: hash of the files that a task of a config is made from; "" where there are none.
        title: the task in a few words, e.g. "a + b mod 59"; "" where there is no more to say than its class.
        example_names: the examples' own names, in the order of `ids`, where the data name them; else None.
        class_names: the classes' names in their order, where the data names them; else None.
        dropped_copies: number of held-out examples that were left out as copies of training examples.
        held_out_copies: number of such copies in the test set; only of runs recorded before they were refused.
        units: places in `train_ids` of the examples that a training step takes together, one row per unit and time that
            it is shown in an epoch (a sequence's predictions); None if each example is taken by itself, once an epoch.
    """

    n_classes: int
    ids: Int[Tensor, " example"]
    train_ids: Int[Tensor, " example"]
    test_ids: Int[Tensor, " example"]
    operands: Int[Tensor, "example 2"] | None = None
    group: Group | None = None
    operation: str | None = None
    augmented: bool = False
    title: str = ""
    example_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    data_digest: str = ""
    dropped_copies: int = 0
    held_out_copies: int = 0
    units: Int[Tensor, "unit place"] | None = None

    def answer_positions(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return the position at which a network with positions answers each example; None if it is the same for all.

        That one is then the role `output`'s.
        """
        return None

    @property
    def sources(self) -> Int[Tensor, " example"]:
        """Ids of the training examples without augmentation, to which probes are fitted."""
        return self.train_ids

    def source(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the ids of the examples of which these are fixed views; other examples have their own id."""
        return whole_ids(ids)

    @abc.abstractmethod
    def batch(self, ids: Ids, step: int | None = None) -> tuple[Inputs, Int[Tensor, " example"]]:
        """Return model inputs and given labels of these ids; `step` picks the augmented view, if any.

        Inputs are a tensor with one row per example, or `NamedInputs` of a network that takes several by name.
        """

    @abc.abstractmethod
    def true(self, ids: Ids) -> Int[Tensor, " example"] | None:
        """Return true labels of these ids, or None if they are not known for all of them."""

    @property
    @abc.abstractmethod
    def digest(self) -> str:
        """Hash of everything that defines the task; part of every file made from it."""

    @property
    def summary(self) -> dict[str, Any]:
        """Plain values that describe the task in a scorecard."""
        sizes = {"classes": self.n_classes, "n_train": len(self.train_ids), "n_test": len(self.test_ids)}
        return sizes | self._told

    @property
    def _told(self) -> dict[str, Any]:
        """What a summary says only of tasks of which it is true."""
        told = {"dropped_copies": self.dropped_copies, "held_out_copies": self.held_out_copies}
        told |= {"class_names": None if self.class_names is None else list(self.class_names)}
        return {name: value for name, value in told.items() if value}

    @property
    def description(self) -> str:
        """The task in words: what it is, if that is known, its sizes, wrong labels and classes."""
        noisy, (n_train, n_test) = self.noisy, (len(self.train_ids), len(self.test_ids))
        wrong = "" if noisy is None else f", {int(noisy.sum()):,} with a wrong label"
        first = ", ".join((self.class_names or ())[:NAMES_SHOWN])
        names = f" ({first}{', …' if self.n_classes > NAMES_SHOWN else ''})" if first else ""
        copies = f" ({self.dropped_copies:,} copies of training examples left out)" if self.dropped_copies else ""
        copies += f" ({self.held_out_copies:,} are copies of training examples)" if self.held_out_copies else ""
        counted = f"{n_train:,} for training{wrong}; {n_test:,} for testing{copies}; {self.n_classes:,} classes{names}"
        return f"{self.title}{': ' if self.title else ''}{counted}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.description})"

    def given(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the labels given in training (on test ids, the true ones)."""
        return self.batch(ids)[1]

    @functools.cached_property
    def _order(self) -> torch.Tensor:
        return torch.argsort(self.ids)

    def rows(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the positions of these ids in `ids` (and so in `operands`).

        Raises:
            ConfigError: they are not whole numbers.
            UnknownNameError: an id is not one of the task's.
        """
        ids = whole_ids(ids)
        place = torch.searchsorted(self.ids[self._order], ids.contiguous()).clamp(max=len(self.ids) - 1)
        rows = self._order[place]
        other = ids[self.ids[rows] != ids]
        if len(other):
            raise UnknownNameError(f"no example id {other[0]}: this task's lie in {self.ids.min()} … {self.ids.max()}")
        return rows

    @functools.cached_property
    def noisy(self) -> torch.Tensor | None:
        """Which training examples have a wrong label, in the order of `train_ids`; None if not known."""
        return self.is_noisy(self.train_ids)

    def is_noisy(self, ids: Ids) -> Bool[Tensor, " example"] | None:
        """Return which of these examples have a wrong label; None if the truth of any is not known."""
        truth = self.true(ids)
        return None if truth is None else truth != self.given(ids)

    @functools.cached_property
    def splits(self) -> dict[str, Int[Tensor, " example"] | None]:
        """Ids of `train_clean`, `train_noisy` and `test`; None for an unknown split."""
        noisy = self.noisy
        return {
            "train_clean": None if noisy is None else self.train_ids[~noisy],
            "train_noisy": None if noisy is None else self.train_ids[noisy],
            "test": self.test_ids,
        }

    @property
    def symbols(self) -> int:
        """Number of symbols that an operand can take, the side of the grid of inputs.

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
        check_whole("a", a, 0)
        check_whole("b", b, 0)
        found = self.ids[(self.operands == torch.tensor([a, b])).all(1)]
        if len(found) != 1:
            raise UnknownNameError(f"{len(found)} examples are the pair ({a}, {b}), not one")
        return int(found[0])
