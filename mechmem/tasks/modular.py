"""Modular addition, subtraction and multiplication, with the grid of all inputs and stable ids a·p + b."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.contracts import Task
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.config import ModularConfig, is_prime
from mechmem.tasks.groups import CyclicGroup
from mechmem.tasks.label_noise import apply_noise
from mechmem.tasks.splits import training_mask


def answer(op: str, operands: Int[Tensor, "cell 2"], p: int) -> Int[Tensor, " cell"]:
    """Return the true answer of each pair."""
    a, b = operands.unbind(1)
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[op] % p


class ModularTask(Task):
    """c = a ∘ b (mod p). An id is a·p + b; inputs are the pairs themselves, as integers."""

    def __init__(self, config: ModularConfig):
        """Build the grid, the split and the given labels; the same config always gives the same task."""
        self.config = config
        p = config.p
        self.n_classes = p
        self.operation = config.op
        self.ids = torch.arange(p * p)
        self._pairs = torch.stack([self.ids // p, self.ids % p], 1)
        self.operands = self._pairs
        if config.op != "multiply" or is_prime(p):
            self.group = CyclicGroup(p, multiplicative=config.op == "multiply")
        self._true = answer(config.op, self._pairs, p)
        trained = training_mask(self._true, config.train_fraction, config.split, config.seed)
        self.train_ids, self.test_ids = self.ids[trained], self.ids[~trained]
        if not len(self.train_ids) or not len(self.test_ids):
            empty = "test" if len(self.train_ids) else "training"
            raise ConfigError(f"train fraction {config.train_fraction} leaves an empty {empty} set")
        self._given = self._true.clone()
        self._given[self.train_ids] = apply_noise(
            config.noise, self._true[self.train_ids], p, config.seed, self._pairs[self.train_ids]
        )

    @property
    def symbols(self) -> int:
        """The modulus p."""
        return self.config.p

    @property
    def digest(self) -> str:
        """Hash of the config."""
        return self.config.digest

    @property
    def summary(self) -> dict[str, Any]:
        """The config's values and the sizes of the splits."""
        splits = {f"n_{name}": 0 if ids is None else len(ids) for name, ids in self.splits.items()}
        return {**self.config.to_dict(), "classes": self.n_classes, "n_train": len(self.train_ids), **splits}

    def batch(
        self, ids: Int[Tensor, " example"], step: int | None = None
    ) -> tuple[Int[Tensor, "example 2"], Int[Tensor, " example"]]:
        """Return the pairs and the given labels; there is no augmentation, so `step` changes nothing."""
        return self._pairs[ids], self._given[ids]

    def true(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the true answers."""
        return self._true[ids]

    def cell(self, a: int, b: int) -> int:
        """Return the id a·p + b.

        Raises:
            UnknownNameError: a or b is not a residue mod p.
        """
        p = self.config.p
        if not (0 <= a < p and 0 <= b < p):
            raise UnknownNameError(f"no cell ({a}, {b}): operands lie in 0 … {p - 1}")
        return a * p + b
