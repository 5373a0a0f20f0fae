"""Measurement of pruning curves: accuracy and loss on the four splits, by algebra or through hooks."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.interventions.batched import Batched
from mechmem.interventions.runs import Replacement, edited_logits
from mechmem.interventions.units import Units
from mechmem.interventions.values import Value, donors, replacement_values
from mechmem.math.ablation import cumulative_ablation, outcomes
from mechmem.math.blocks import blocks
from mechmem.math.logits import NOT_FINITE, answers_of
from mechmem.models.reading.linear_readout import LinearReadout
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import LabelledSplit, labelled_splits

Measured = tuple[Int[Tensor, " split"], Float[Tensor, "curve point split"], Float[Tensor, "curve point split"]]
"""Number of examples, accuracy and loss."""

_BLOCK = 2**18
"""Logits per block of examples: 1 MB in float32. Larger blocks fall out of cache, smaller ones cost more calls."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """The curves to measure.

    Attributes:
        orders: the layer's units in the order in which they are ablated. Shape (curve, unit).
        removed: how many of them are ablated at each point. Shape (point).
        value: what their activations are replaced with.
        seed: seed of the examples that "resample" takes.
        losses: whether cross-entropies are measured too.
    """

    orders: Int[Tensor, "curve unit"]
    removed: Int[Tensor, " point"]
    value: Value
    seed: int
    losses: bool


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """Examples that lie in one split or in two, and what their predictions are compared with.

    Attributes:
        splits: positions in `SPLITS`, one per row of labels.
        rows: positions in the task's ids. Shape (example).
        labels: classes. Shape (labelling, example).
    """

    splits: tuple[int, ...]
    rows: Int[Tensor, " example"]
    labels: Int[Tensor, "labelling example"]


def _parts(task: Task) -> list[_Part]:
    """Return the clean, noisy and test examples, leaving out empty splits and those with unknown labels."""
    found: dict[str, list[LabelledSplit]] = {}
    for split in labelled_splits(task):
        # The same examples with both of their labels.
        found.setdefault(split.name.removesuffix("_true"), []).append(split)
    return [
        _Part(
            tuple(SPLITS.index(split.name) for split in same),
            task.rows(same[0].ids),
            torch.stack([split.labels for split in same]),
        )
        for same in found.values()
    ]


class _Tally:
    """Running counts and sums over examples, by curve, point and split."""

    def __init__(self, parts: list[_Part], curves: Curves):
        self._n = torch.zeros(len(SPLITS), dtype=torch.long)
        for part in parts:
            self._n[list(part.splits)] = len(part.rows)
        self._sums = torch.zeros(2, len(curves.orders), len(curves.removed), len(SPLITS), dtype=torch.float64)

    def add(
        self, part: _Part, correct: Tensor, loss: Tensor, where: tuple[Any, ...] = (slice(None), slice(None))
    ) -> None:
        """Add counts of correct predictions and summed losses of some of a part's examples, one per labelling."""
        for column, split in enumerate(part.splits):
            self._sums[0, *where, split] += correct[..., column]
            self._sums[1, *where, split] += loss[..., column]

    def measured(self) -> Measured:
        """Return means; NaN for a split without examples."""
        accuracy, loss = self._sums / self._n
        return self._n, accuracy, loss


def by_algebra(subject: Subject, linear: LinearReadout, curves: Curves) -> Measured:
    """Measure from the readout, without running the network."""
    task, roles = subject.task, subject.roles
    parts = _parts(task)
    tally = _Tally(parts, curves)
    weights = linear.weights[curves.orders]
    bias = torch.zeros_like(linear.logits[0]) if roles.bias is None else roles.bias.read(subject.model).cpu()
    mean = linear.hidden[task.rows(task.train_ids)].mean(0, dtype=torch.float64).to(linear.hidden.dtype)
    constant = torch.zeros_like(mean) if curves.value == "zero" else mean
    # Nothing is added to the bias if every neuron is zero, so that ties are exact to the last bit.
    emptied = bias.to(linear.logits) if curves.value == "zero" else bias.to(linear.logits) + mean @ linear.weights
    donor = donors(task, curves.seed) if curves.value == "resample" else None
    for part in parts:
        for block in blocks(len(part.rows), max(64, _BLOCK // task.n_classes)):
            rows = part.rows[block]
            full, replacement, bare = linear.logits[rows], constant, emptied.expand(len(rows), -1)
            if donor is not None:
                replacement, bare = linear.hidden[donor[rows]], linear.logits[donor[rows]]
            change = linear.hidden[rows] - replacement if curves.value != "zero" else linear.hidden[rows]
            found = cumulative_ablation(
                _classes_first(change),
                weights,
                curves.orders,
                curves.removed,
                _classes_first(bare),
                _classes_first(full),
                part.labels[:, block],
                losses=curves.losses,
            )
            tally.add(part, *found)
    return tally.measured()


def _classes_first(values: Float[Tensor, "example column"]) -> Float[Tensor, "column example"]:
    return rearrange(values, "example column -> column example").contiguous()


def by_hooks(subject: Subject, where: Units, curves: Curves) -> tuple[Measured, str]:
    """Measure by running the network at every point of every curve with the ablated units' activations replaced.

    Returns:
        the measurements, and a note on how the passes were batched, or "".
    """
    task, parts = subject.task, _parts(subject.task)
    tally = _Tally(parts, curves)
    place_in_order = curves.orders.argsort(1)
    gone = rearrange(place_in_order, "curve unit -> curve 1 unit") < rearrange(curves.removed, "point -> 1 point 1")
    masks = where.masks(rearrange(gone, "curve point unit -> (curve point) unit"))
    how = Batched()
    for part in parts:
        ids = task.ids[part.rows]
        values = replacement_values(subject, where.layout, curves.value, ids, curves.seed)
        place = Replacement(where.point, values, masks)
        for edits, block, logits in edited_logits(subject, ids, (place,), how):
            for edit, found in zip(range(edits.start, edits.stop), logits, strict=True):
                columns = _classes_first(found)
                hits, nats = zip(
                    *(outcomes(columns, labels, losses=curves.losses) for labels in part.labels[:, block]), strict=True
                )
                # No answer can be counted where a logit is not finite.
                lost = torch.nan if bool((answers_of(found) == NOT_FINITE).any()) else 0
                correct = torch.stack([each.count_nonzero() for each in hits]) + lost
                loss = torch.stack([torch.tensor(torch.nan) if each is None else each.double().sum() for each in nats])
                tally.add(part, correct, loss, divmod(edit, len(curves.removed)))
    return tally.measured(), how.note
