"""Tasks built from a config, tasks on the grid of symbol pairs, and the choice of training cells."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.arguments import check, checked
from mechmem.core.randomness import generator
from mechmem.core.task import Ids, Task, check_places
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.config import GroupConfig, ModularConfig, SplitKind, TaskConfig, is_prime
from mechmem.tasks.groups import CyclicGroup, FiniteGroup, group_named
from mechmem.tasks.label_noise import apply_noise


class ConfiguredTask(Task):
    """Base class of tasks determined by their config.

    Attributes:
        config: everything that the task depends on.
    """

    config: TaskConfig

    @property
    def digest(self) -> str:
        """Hash of the config."""
        return self.config.digest

    @property
    def summary(self) -> dict[str, Any]:
        """The config's values and the sizes of the splits."""
        splits = {f"n_{name}": 0 if ids is None else len(ids) for name, ids in self.splits.items()}
        sizes = {"classes": self.n_classes, "n_train": len(self.train_ids), **splits}
        return {**self.config.to_dict(), **sizes, **self._told}


class GridTask(ConfiguredTask):
    """A rule c = a ∘ b on n symbols. Ids are a·n + b; inputs are the pairs as integers.

    Args:
        config: split, noise and seed; the same config always gives the same task.
        answers: the answer c for every a and b.

    Raises:
        ConfigError: the split leaves the training or the test set empty.
    """

    def __init__(self, config: ModularConfig | GroupConfig, answers: Int[Tensor, "symbol symbol"]):
        self.config = config
        n = len(answers)
        self.n_classes = n
        self.ids = torch.arange(n * n)
        self._pairs = torch.stack([self.ids // n, self.ids % n], 1)
        self.operands = self._pairs
        self._true = answers[self._pairs[:, 0], self._pairs[:, 1]]
        trained = training_mask(self._true, config.train_fraction, config.split, config.seed)
        self.train_ids, self.test_ids = self.ids[trained], self.ids[~trained]
        if not len(self.train_ids) or not len(self.test_ids):
            empty = "test" if len(self.train_ids) else "training"
            raise ConfigError(f"train fraction {config.train_fraction} leaves an empty {empty} set")
        self._given = self._true.clone()
        self._given[self.train_ids] = apply_noise(
            config.noise, self._true[self.train_ids], n, config.seed, self._pairs[self.train_ids]
        )

    @property
    def symbols(self) -> int:
        """Number of symbols n."""
        return self.n_classes

    def batch(self, ids: Ids, step: int | None = None) -> tuple[Int[Tensor, "example 2"], Int[Tensor, " example"]]:
        """Return the pairs and the given labels; without augmentation `step` has no effect."""
        ids = check_places(ids, len(self._given))
        return self._pairs[ids], self._given[ids]

    def true(self, ids: Ids) -> Int[Tensor, " example"]:
        """Return the true answers."""
        return self._true[check_places(ids, len(self._true))]

    def cell(self, a: int, b: int) -> int:
        """Return the id a·n + b.

        Raises:
            UnknownNameError: a or b is not one of the n symbols.
        """
        check("a", a, int)
        check("b", b, int)
        n = self.n_classes
        if not (0 <= a < n and 0 <= b < n):
            raise UnknownNameError(f"no cell ({a}, {b}): operands lie in 0 … {n - 1}")
        return a * n + b


def training_mask(answers: Int[Tensor, " cell"], fraction: float, kind: SplitKind, seed: int) -> Bool[Tensor, " cell"]:
    """Return which cells are in the training set.

    Args:
        answers: true answer of each cell.
        fraction: fraction of the cells (for "answers": of the answers) in the training set.
        kind: "random", "stratified" or "answers"; see `ModularConfig.split`.
        seed: seed of the task.
    """
    draw = generator(seed, "split")
    if kind == "answers":
        n_answers = int(answers.max()) + 1
        return (torch.randperm(n_answers, generator=draw) < round(fraction * n_answers))[answers]
    order = torch.randperm(len(answers), generator=draw)
    if kind == "stratified":
        # Rank each cell within its answer, then take the lowest ranks of every answer.
        shuffled = answers[order]
        within = torch.empty_like(order)
        by_answer = torch.argsort(shuffled, stable=True)
        counts = torch.bincount(shuffled)
        starts = torch.cumsum(counts, 0) - counts
        within[order[by_answer]] = torch.arange(len(answers)) - torch.repeat_interleave(starts, counts)
        return within < torch.round(fraction * counts)[answers]
    mask = torch.zeros(len(answers), dtype=torch.bool)
    mask[order[: round(fraction * len(answers))]] = True
    return mask


def answers(op: str, p: int) -> Int[Tensor, "p p"]:
    """Return the true answer of every pair."""
    b = torch.arange(p)
    a = rearrange(b, "a -> a 1")
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[op] % p


class ModularTask(GridTask):
    """Modular arithmetic c = a ∘ b (mod p). Ids are a·p + b; inputs are the pairs as integers."""

    @checked
    def __init__(self, config: ModularConfig):
        """Build the grid, the split and the given labels; the same config always gives the same task."""
        super().__init__(config, answers(config.op, config.p))
        self.operation = config.op
        if config.op != "multiply" or is_prime(config.p):
            self.group = CyclicGroup(config.p, multiplicative=config.op == "multiply")
        sign = {"add": "+", "subtract": "−", "multiply": "·"}[config.op]
        self.title = f"a {sign} b mod {config.p}"


class GroupTask(GridTask):
    """Composition c = a·b, or a·b⁻¹, in a finite group. Ids are a·n + b; inputs are the pairs as integers.

    Symbols are the group's elements in the order of `FiniteGroup.element_names`. Over "Zn" composition is addition mod
    n: the operation is "add" or "subtract", the group is the `CyclicGroup` of `ModularTask`, and phases are defined.
    Over any other group the operation is "compose" or "divide", and frequencies are irreducible representations.
    """

    @checked
    def __init__(self, config: GroupConfig):
        """Build the grid, the split and the given labels; the same config always gives the same task."""
        elements = FiniteGroup(config.group)
        divides = config.op == "divide"
        super().__init__(config, elements.product[:, elements.inverse] if divides else elements.product)
        self.group = group_named(config.group)
        sums = not isinstance(self.group, FiniteGroup)
        self.operation = ("subtract" if divides else "add") if sums else config.op
        self.title = f"{'a·b⁻¹' if divides else 'a·b'} in {config.group}"
