"""Observer: collects what training passes say of each example, and writes it at the end of an epoch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float64, Int
from torch import Tensor

from mechmem.core.arguments import check
from mechmem.core.ids import as_ids
from mechmem.core.roles import Output
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.math.logits import all_finite, answers_of, at_label, refuse_probabilities
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.forward import read_logits
from mechmem.training.observations import Epoch, epochs_of

HELD = 2**23
"""Bytes of logits that are kept before they are worked out together: a step costs a copy, and nothing waits for it."""


class Observer:
    """Collects logits of training examples.

    Args:
        task: the task.
        path: the run directory.
        run: hash of the run's header.
    """

    def __init__(self, task: Task, path: Path, run: str):
        self._task, self._path, self._run = task, path, run
        self._sorted, self._order = task.train_ids.sort()
        self._given = task.given(task.train_ids)
        self._epoch = Epoch.empty(len(task.train_ids))
        self._held: list[tuple[Ids, Tensor, Tensor | None]] = []
        self._classes, self._bytes, self._begun = task.n_classes, 0, False

    @property
    def pending(self) -> bool:
        """Whether something was observed that is not in a file yet."""
        return bool(self._held) or bool(self._epoch.count.any())

    def add(self, ids: Ids, logits: Tensor, labels: Tensor | None) -> None:
        """Keep the logits of a batch."""
        if not hasattr(ids, "__len__") or getattr(ids, "ndim", 1) != 1:
            ids = as_ids(ids)  # which refuses them
        shape = (len(ids), self._classes)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != shape or not logits.is_floating_point():
            logits = read_logits(logits, Output(), *shape)  # which refuses them, unless they are whole numbers
        if labels is not None and (not isinstance(labels, Tensor) or tuple(labels.shape) != shape[:1]):
            check("labels", labels, Tensor)
            raise ConfigError(f"labels must be one per example, ({len(ids)},), got shape {tuple(labels.shape)}")
        # Copies, as the loop may overwrite what it passed, or it may be a view of something large.
        ids = ids.clone() if isinstance(ids, Tensor) else copy.copy(ids)
        self._held.append((ids, logits.detach().clone(), None if labels is None else labels.detach().clone()))
        self._bytes += logits.nbytes
        # The first batch at once: what is wrong with the data set shows in it.
        if self._bytes >= HELD or not self._begun:
            self._work_out()

    def end_epoch(self, step: int) -> None:
        """Write the epoch.

        Raises:
            ConfigError: an example or its label is not the task's.
            TrainingFailedError: a logit is not finite.
        """
        self._work_out()
        self._epoch.write(self._path, self._run, len(epochs_of(self._path)) + 1, step)
        self._epoch = Epoch.empty(len(self._given))

    def _work_out(self) -> None:
        """Turn the logits that are held into sums over the epoch."""
        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return
        try:
            self._count(held)
        except (ConfigError, TrainingFailedError) as error:
            # What was observed beside the batch that is refused stays observed.
            for batch in held if len(held) > 1 else []:
                with contextlib.suppress(ConfigError, TrainingFailedError):
                    self._count([batch])
            raise error

    def _count(self, held: Sequence[tuple[Ids, Tensor, Tensor | None]]) -> None:
        """Add batches to the sums, all of them or none."""
        ids = torch.cat([as_ids(each) for each, _, _ in held])
        places = self._places(ids)
        logits = full_precision(torch.cat([each for _, each, _ in held]))
        self._check_labels(ids, places, [labels for _, _, labels in held], [len(each) for _, each, _ in held])
        if not all_finite(logits):
            lost = (~logits.isfinite()).any(1).nonzero().flatten()
            raise TrainingFailedError(f"a logit of example {int(ids[lost[0]])} is NaN or infinite in a training pass")
        refuse_probabilities(logits)
        self._begun = True
        found = _said(logits, self._given[places].to(logits.device)).cpu()
        epoch = self._epoch
        epoch.count.index_add_(0, places, torch.ones_like(places))
        epoch.right.index_add_(0, places, found[0].long())
        epoch.loss.index_add_(0, places, found[1])
        epoch.margin.index_add_(0, places, found[2])

    def _places(self, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
        """Return where examples stand among the task's training examples."""
        near = torch.searchsorted(self._sorted, ids).clamp(max=len(self._sorted) - 1)
        strangers = ids[self._sorted[near] != ids]
        if len(strangers):
            raise ConfigError(f"ids must be training examples of the task, but {int(strangers[0])} is not one")
        return self._order[near]

    def _check_labels(
        self,
        ids: Int[Tensor, " example"],
        places: Int[Tensor, " example"],
        labels: Sequence[Tensor | None],
        rows: Sequence[int],
    ) -> None:
        """Refuse a label that is not the one that the task gives."""
        said = [each for each in labels if each is not None]
        if not said:
            return
        told = torch.tensor([each is not None for each in labels]).repeat_interleave(torch.tensor(rows))
        # Joined where they are: on an accelerator every transfer is waited for.
        found = torch.cat(said).cpu()
        found = found.double() if found.is_floating_point() else found
        ids, given = ids[told], self._given[places[told]]
        if found.is_floating_point() and len(broken := (found % 1 != 0).nonzero().flatten()):
            first = int(broken[0])
            raise ConfigError(
                f"labels must be whole numbers, but that of example {int(ids[first])} is {float(found[first]):g}: pass "
                "the class of each example"
            )
        wrong = (found != given).nonzero().flatten()
        if len(wrong):
            first = int(wrong[0])
            raise ConfigError(
                f"the batch says that the label of example {int(ids[first])} is {found[first].item()}, the task that "
                f"it is {int(given[first])}: the rows of the training data are not the task's training "
                "examples in their order; pass ids=, the id of each row"
            )


def _said(logits: Float[Tensor, "example class"], given: Int[Tensor, " example"]) -> Float64[Tensor, "3 example"]:
    """Return whether each answer is the given label, the loss, and the margin."""
    label = rearrange(given, "example -> example 1")
    margin = at_label(logits, given) - logits.scatter(1, label, -torch.inf).amax(1)
    right = margin > 0
    tied = (margin == 0).nonzero().flatten()
    right[tied] = answers_of(logits[tied]) == given[tied]
    return torch.stack([right.double(), F.cross_entropy(logits, given, reduction="none").double(), margin.double()])
