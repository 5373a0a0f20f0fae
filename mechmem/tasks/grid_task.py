"""Tasks on the grid of all pairs of n symbols, with the same symbols as answers."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mechmem.errors import ConfigError, UnknownNameError
from mechmem.tasks.config import GroupConfig, ModularConfig
from mechmem.tasks.configured import ConfiguredTask
from mechmem.tasks.label_noise import apply_noise
from mechmem.tasks.splits import training_mask


class GridTask(ConfiguredTask):
    """A rule c = a ∘ b on n symbols. An id is a·n + b; inputs are the pairs themselves, as integers.

    Args:
        config: split, noise and seed; the same config always gives the same task.
        answers: c for every a and b.

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

    def batch(
        self, ids: Int[Tensor, " example"], step: int | None = None
    ) -> tuple[Int[Tensor, "example 2"], Int[Tensor, " example"]]:
        """Return the pairs and the given labels; there is no augmentation, so `step` changes nothing."""
        return self._pairs[ids], self._given[ids]

    def true(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return the true answers."""
        return self._true[ids]

    def cell(self, a: int, b: int) -> int:
        """Return the id a·n + b.

        Raises:
            UnknownNameError: a or b is not one of the n symbols.
        """
        n = self.n_classes
        if not (0 <= a < n and 0 <= b < n):
            raise UnknownNameError(f"no cell ({a}, {b}): operands lie in 0 … {n - 1}")
        return a * n + b
