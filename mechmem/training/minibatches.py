"""Minibatches of each step; the order derives from (seed, epoch), so that resuming needs no state."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from mechmem.core.inputs import one_tensor
from mechmem.core.randomness import generator
from mechmem.core.task import Task


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
    """The examples of a step.

    Attributes:
        ids: the examples' ids; for fixed views, those of the original images.
        inputs: inputs of the network. Shape (example, …).
        given: the labels. Shape (example).
    """

    ids: Int[Tensor, " example"]
    inputs: Shaped[Tensor, "example ..."]
    given: Int[Tensor, " example"]

    def part(self, block: slice) -> Batch:
        """Return the examples of a block of rows."""
        return Batch(self.ids[block], self.inputs[block], self.given[block])


class Order:
    """Order in which a network's steps go over n places; derived from (seed, epoch), without state to save.

    Args:
        n: number of places.
        batch_size: places per step; 0 for all.
        seed: seed of the order.

    Attributes:
        size: places per step; the last step of an epoch may have fewer.
    """

    def __init__(self, n: int, batch_size: int, seed: int):
        self._n, self._seed = n, seed
        self.size = batch_size if 0 < batch_size < n else n
        self._drawn: tuple[int, Tensor] | None = None

    @property
    def whole(self) -> bool:
        """Whether every step covers all places."""
        return self.size == self._n

    def at(self, step: int) -> Int[Tensor, " place"]:
        """Return the places of a step (counted from 0)."""
        if self.whole:
            return torch.arange(self._n)
        epoch, position = divmod(step, -(-self._n // self.size))
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, torch.randperm(self._n, generator=generator(self._seed, "order", epoch))
        return self._drawn[1][position * self.size : (position + 1) * self.size]


class TrainingSet:
    """A task's training examples on a device.

    They are held in memory, unless augmentation changes them at every step, or they are drawn in units: the prefixes of
    a sequence take far more memory than the sequence.

    Args:
        task: the task.
        device: device of the inputs.
    """

    def __init__(self, task: Task, device: torch.device):
        self._task, self._device = task, device
        drawn = task.augmented or task.units is not None
        self._held = None if drawn else self._shown(torch.arange(len(task.train_ids)))

    @property
    def changes(self) -> bool:
        """Whether the inputs are made anew at every step."""
        return self._held is None

    def whole(self, step: int) -> Batch:
        """Return all examples as of a step (counted from 0)."""
        return self._shown(torch.arange(len(self._task.train_ids)), step) if self._held is None else self._held

    def at(self, places: Int[Tensor, " example"], step: int) -> Batch:
        """Return the examples at these places of `task.train_ids`, as of a step (counted from 0)."""
        if self._held is None:
            return self._shown(places, step)
        there = places.to(self._device)
        return Batch(self._held.ids[places], self._held.inputs[there], self._held.given[there])

    def _shown(self, places: Int[Tensor, " example"], step: int | None = None) -> Batch:
        ids = self._task.train_ids[places]
        inputs, given = self._task.batch(ids, step)
        inputs = one_tensor(inputs, "training by a config")
        return Batch(self._task.source(ids), inputs.to(self._device), given.to(self._device))
