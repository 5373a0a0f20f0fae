"""Accuracy and loss on the four splits along pruning curves, by algebra and through hooks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.caching import Mean, activations, hook_points
from mechmem.contracts import Subject, Task
from mechmem.errors import ConfigError
from mechmem.linear_readout import LinearReadout
from mechmem.math.blocks import blocks
from mechmem.math.cumulative_ablation import cumulative_ablation, outcomes
from mechmem.models.forward import all_logits, logits_of
from mechmem.randomness import generator
from mechmem.tasks.config import SPLITS
from mechmem.tasks.labelled_splits import LabelledSplit, labelled_splits

Value = Literal["zero", "mean", "resample"]
Measured = tuple[Int[Tensor, " split"], Float[Tensor, "curve point split"], Float[Tensor, "curve point split"]]
"""Number of examples, accuracy, loss."""

_BLOCK = 2**18
"""Logits per block of examples: a megabyte in float32. Longer ones fall out of cache, shorter ones cost more calls."""


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
    """Return the clean, the noisy and the test examples, as far as there are any and their labels are known."""
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

    def __init__(self, parts: list[_Part], curves: int, points: int):
        self._n = torch.zeros(len(SPLITS), dtype=torch.long)
        for part in parts:
            self._n[list(part.splits)] = len(part.rows)
        self._sums = torch.zeros(2, curves, points, len(SPLITS), dtype=torch.float64)

    def add(
        self, part: _Part, correct: Tensor, loss: Tensor, where: tuple[Any, ...] = (slice(None), slice(None))
    ) -> None:
        """Add counts of right answers and summed losses of some of a part's examples, one per labelling."""
        for column, split in enumerate(part.splits):
            self._sums[0, *where, split] += correct[..., column]
            self._sums[1, *where, split] += loss[..., column]

    def measured(self) -> Measured:
        """Return means; those over no example are not numbers."""
        accuracy, loss = self._sums / self._n
        return self._n, accuracy, loss


def by_algebra(
    subject: Subject,
    linear: LinearReadout,
    orders: Int[Tensor, "curve neuron"],
    removed: Int[Tensor, " point"],
    value: Value,
    seed: int,
    losses: bool,
) -> Measured:
    """Measure from the readout, without running the network."""
    task, roles = subject.task, subject.roles
    parts = _parts(task)
    tally = _Tally(parts, len(orders), len(removed))
    weights = linear.weights[orders]
    bias = torch.zeros_like(linear.logits[0]) if roles.bias is None else roles.bias.read(subject.model).cpu()
    mean = linear.hidden[task.rows(task.train_ids)].mean(0, dtype=torch.float64).to(linear.hidden.dtype)
    constant = torch.zeros_like(mean) if value == "zero" else mean
    # Nothing is added to the bias where every neuron is zero: ties are then ties to the last bit.
    emptied = bias.to(linear.logits) if value == "zero" else bias.to(linear.logits) + mean @ linear.weights
    donor = _donors(task, seed) if value == "resample" else None
    for part in parts:
        for block in blocks(len(part.rows), max(64, _BLOCK // task.n_classes)):
            rows = part.rows[block]
            full, replacement, bare = linear.logits[rows], constant, emptied.expand(len(rows), -1)
            if donor is not None:
                replacement, bare = linear.hidden[donor[rows]], linear.logits[donor[rows]]
            change = linear.hidden[rows] - replacement if value != "zero" else linear.hidden[rows]
            found = cumulative_ablation(
                _classes_first(change),
                weights,
                orders,
                removed,
                _classes_first(bare),
                _classes_first(full),
                part.labels[:, block],
                losses=losses,
            )
            tally.add(part, *found)
    return tally.measured()


def _classes_first(values: Float[Tensor, "example column"]) -> Float[Tensor, "column example"]:
    return rearrange(values, "example column -> column example").contiguous()


def by_hooks(
    subject: Subject,
    point: str,
    orders: Int[Tensor, "curve neuron"],
    removed: Int[Tensor, " point"],
    value: Value,
    seed: int,
    losses: bool,
) -> Measured:
    """Measure by running the network at every point of every curve, the ablated neurons' activations replaced."""
    task, parts = subject.task, _parts(subject.task)
    tally = _Tally(parts, len(orders), len(removed))
    replacement = _replacement(subject, point, value, seed)
    for curve, order in enumerate(orders):
        for place, count in enumerate(removed.tolist()):
            if count == 0:
                logits = all_logits(subject)
            else:
                with ablated(subject.model, point, order[:count], replacement):
                    logits = logits_of(subject.model, task, task.ids, subject.roles.output)
            for part in parts:
                columns = _classes_first(logits[part.rows])
                hits, nats = zip(*(outcomes(columns, labels, losses=losses) for labels in part.labels), strict=True)
                correct = torch.stack([each.count_nonzero() for each in hits])
                loss = torch.stack([torch.tensor(torch.nan) if each is None else each.double().sum() for each in nats])
                tally.add(part, correct, loss, (curve, place))
    return tally.measured()


def _replacement(subject: Subject, point: str, value: Value, seed: int) -> Callable[[slice, Tensor], Tensor]:
    """Return what stands in for a block of activations, given the block's rows and the activations themselves."""
    task = subject.task
    if value == "zero":
        return lambda block, values: torch.zeros_like(values)
    if value == "mean":
        mean = activations(subject, point, reduce=Mean)[point]
        return lambda block, values: mean.to(values).expand_as(values)
    others = activations(subject, point, ids=task.ids[_donors(task, seed)])[point]
    return lambda block, values: others[block].to(values)


@contextlib.contextmanager
def ablated(
    model: nn.Module,
    point: str,
    neurons: Int[Tensor, " member"],
    replacement: Callable[[slice, Tensor], Tensor],
) -> Iterator[None]:
    """Replace some neurons' activations at a hook point while examples run through the network in their order.

    Args:
        model: a network with that point.
        point: name of a hook point whose first axis is examples and whose last is neurons.
        neurons: which are replaced.
        replacement: what with, given the rows of a block among all examples and the block's activations.
    """
    seen = 0

    def replace(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        nonlocal seen
        block = slice(seen, seen + len(output))
        seen += len(output)
        changed, columns = output.clone(), neurons.to(output.device)
        changed[..., columns] = replacement(block, output)[..., columns]
        return changed

    handle = hook_points(model)[point].register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _donors(task: Task, seed: int) -> Int[Tensor, " example"]:
    """Return, for every id of the task, the row of a random other training example."""
    train = task.rows(task.train_ids)
    if len(train) < 2:
        raise ConfigError("resampling needs at least two training examples")
    place = torch.full((len(task.ids),), len(train))
    place[train] = torch.arange(len(train))
    own = (place < len(train)).long()
    draw = torch.rand(len(task.ids), generator=generator(seed, "resample ablation"), dtype=torch.float64)
    chosen = (draw * (len(train) - own)).long()
    # One place fewer to choose from for a training example, and its own is stepped over.
    return train[chosen + (chosen >= place)]
