"""Which examples are in a batch: read from the batch sampler, as ids cannot ride in batches."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.data import BatchSampler, IterableDataset, Subset

from mechmem.core.ids import as_ids
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError

LABELS = ("labels", "label", "targets", "target", "y")
"""Names under which a batch with named parts may hold its labels."""


class NotingBatchSampler(BatchSampler):
    """Batch sampler that notes the rows of each batch that it hands out.

    It runs in the main process whatever the number of worker processes, hands batches out in the order in which they
    come back, and is asked for some of them ahead of time.

    Args:
        inner: the loader's own batch sampler, which it stands for in everything else.
        began: called when an iteration begins.
        ended: called when the last iteration is over, by its end or by an error, and when this object is gone.
    """

    def __init__(self, inner: Any, began: Callable[[], None], ended: Callable[[], None]):
        self.inner, self._began, self._ended = inner, began, ended
        self._iteration = _Iteration(iter(()), 0)
        self.skip = 0
        """Batches at the start of the next iteration that a trainer takes and drops, to go on within an epoch."""
        weakref.finalize(self, ended).atexit = False

    def __iter__(self) -> Iterator[Sequence[int]]:  # type: ignore[override]
        self._iteration, self.skip = _Iteration(iter(self.inner), self.skip), 0
        self._began()
        handed = _Handed(self._iteration)
        weakref.finalize(handed, _let_go, weakref.ref(self), self._iteration).atexit = False
        return handed

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # of a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self.inner, name)

    def take(self) -> Sequence[int] | None:
        """Return the rows of the first batch handed out that was not taken yet; None if there is none."""
        rows = self._iteration.rows
        taken = rows.popleft() if rows else None
        if self._iteration.abandoned and not rows:
            self._ended()
        return taken

    def let_go(self, iteration: _Iteration) -> None:
        """Note that the loader holds an iteration no more."""
        iteration.abandoned = True
        # A loader may begin the next iteration before it lets go of the last one. And whoever loads ahead of time
        # lets go of one that is exhausted before the network has run on its last batches.
        if iteration is self._iteration and not (iteration.exhausted and iteration.rows):
            self._ended()


class _Iteration:
    """One pass over a batch sampler: what was handed out and not taken yet, and how it stands."""

    def __init__(self, inner: Iterator[Sequence[int]], skip: int):
        self.inner, self.skip = inner, skip
        self.rows: deque[Sequence[int]] = deque()
        self.exhausted = self.abandoned = False


class _Handed(Iterator[Sequence[int]]):
    """The iterator of an iteration, which the loader holds and nobody else."""

    def __init__(self, iteration: _Iteration):
        self._iteration = iteration

    def __next__(self) -> Sequence[int]:
        iteration = self._iteration
        try:
            batch = next(iteration.inner)
        except StopIteration:
            iteration.exhausted = True
            raise
        if iteration.skip:
            iteration.skip -= 1
        else:
            iteration.rows.append(batch)
        return batch


def _let_go(sampler: weakref.ref[NotingBatchSampler], iteration: _Iteration) -> None:
    held = sampler()
    if held is not None:
        held.let_go(iteration)


def bare_loader(loader: Any) -> Any:
    """Return the loader whose batch sampler decides what is in a batch.

    Raises:
        ConfigError: there is none, so that nobody knows which examples a batch holds.
    """
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's is wrapped in another
    if isinstance(getattr(loader, "dataset", None), IterableDataset):
        raise ConfigError("the training data are an IterableDataset, whose rows have no numbers; use one with len()")
    if getattr(loader, "batch_sampler", None) is None:
        raise ConfigError(
            f"examples are told by the batch sampler of a torch DataLoader, and this {type(loader).__name__} has none"
        )
    return loader


def ids_of_rows(dataset: Any, task: Task, ids: Ids | str | None) -> Int[Tensor, " row"]:
    """Return the id of each row of a training data set.

    Args:
        dataset: the data set, or a subset of one.
        task: the task.
        ids: id of each row of the data set (or of that of which it is a subset), or the name of the column that holds
            it; None for the task's training examples in their order, as whichever of the two has as many rows.

    Raises:
        ConfigError: the numbers of rows do not agree, or an id is given twice or is not that of a training example.
    """
    whole, rows = dataset, torch.arange(len(dataset))
    while isinstance(whole, Subset):
        whole, rows = whole.dataset, torch.as_tensor(whole.indices)[rows]
    if isinstance(ids, str):
        names = list(getattr(whole, "column_names", ()))
        if ids not in names:
            raise ConfigError(
                f"the training data have no column {ids!r} (columns: {', '.join(names) or 'none'}); a trainer may drop "
                "columns that the model does not take: pass ids=, the id of each row"
            )
        ids = as_ids(whole[ids][:])
    if ids is None:
        found = task.train_ids
        remedy = f"and the task has {len(found)} training examples: pass ids=, the id of each row"
    else:
        found = as_ids(ids)
        remedy = f"and there are {len(found)} ids"
        values, counts = found.unique(return_counts=True)
        if (counts > 1).any():
            raise ConfigError(f"ids must be one for each row, but {int(values[counts > 1][0])} is given twice")
    if len(found) == len(whole):  # type: ignore[arg-type]
        found = found[rows]
    elif len(found) != len(dataset):
        raise ConfigError(f"the training data have {len(dataset)} rows, {remedy}")
    strangers = found[~torch.isin(found, task.train_ids)]
    if len(strangers):
        raise ConfigError(f"ids must be training examples of the task, but {int(strangers[0])} is not one")
    return found


def labels_in(batch: Any) -> Tensor | None:
    """Return the labels in a batch, if it is (inputs, labels) or names them; None if they are not seen."""
    found = None
    if isinstance(batch, Mapping):
        found = next((batch[name] for name in LABELS if name in batch), None)
    elif isinstance(batch, tuple | list) and len(batch) > 1:
        found = batch[1]
    return as_labels(found)


def as_labels(values: Any) -> Tensor | None:
    """Return values as labels if that is what they are: a whole number per example."""
    if not isinstance(values, Tensor) or values.is_floating_point() or values.is_complex():
        return None
    return values if values.ndim == 1 else values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else None


def check_alone(model: nn.Module) -> None:
    """Refuse a training of which a process, or a copy of the network, sees only a part of the batches.

    Raises:
        ConfigError: there are several.
    """
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    processes = torch.distributed.get_world_size() if several else 1
    if processes > 1 or isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        seen = f"{processes} processes" if processes > 1 else f"a {type(model).__name__}"
        raise ConfigError(f"trainings are recorded in one process on one device, and this one is in {seen}")
