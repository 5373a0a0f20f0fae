"""Cumulative and single ablation of neurons in logits that are linear in them, on bare tensors.

In cumulative ablation classes are the first axis and examples the last: a group of neurons is then a block of rows, and
reductions over classes run along whole rows of examples.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.storage import record
from mechmem.math.blocks import blocks

BOUND_ELEMENTS = 2**18
"""Number of pairs (example, neuron) bounded at once, so that a block stays in cache."""
EXACT_ELEMENTS = 2**20
"""Number of logits computed at once for the pairs that a bound does not exclude."""


def outcomes(
    logits: Float[Tensor, "class example"],
    labels: Int[Tensor, " example"],
    *,
    losses: bool = True,
    scratch: Float[Tensor, "class example"] | None = None,
) -> tuple[Bool[Tensor, " example"], Float[Tensor, " example"] | None]:
    """Return which predictions equal the label, and each example's cross-entropy.

    The label's logit is compared with the largest other one, which costs a fraction of an argmax; ties are resolved as
    in argmax (the lowest class). The loss is computed as log1p of the other classes' share, so that losses far below
    the rounding of a logit survive.

    Args:
        logits: one column per example; modified temporarily and restored.
        labels: label of each example.
        losses: whether to compute losses; their exponentials take more time than everything else.
        scratch: buffer for the exponentials; allocating one takes as long as filling it.

    Returns:
        whether the prediction is the label, and the cross-entropy in nats (None without `losses`).
    """
    place = rearrange(labels, "example -> 1 example")
    own = logits.gather(0, place)
    logits.scatter_(0, place, -torch.inf)
    rival = logits.amax(0, keepdim=True)
    correct = (own > rival)[0]
    loss = None
    if losses:
        top = torch.maximum(own, rival)
        scratch = torch.empty_like(logits) if scratch is None else scratch
        others = torch.sub(logits, top, out=scratch).exp_().sum(0, keepdim=True)
        loss = (top - own + torch.log1p(others + torch.expm1(own - top)))[0]
    logits.scatter_(0, place, own)
    tied = (own == rival)[0].nonzero().flatten()
    if len(tied):
        correct[tied] = rearrange(logits[:, tied], "classes tie -> tie classes").argmax(1) == labels[tied]
    return correct, loss


def cumulative_ablation(
    change: Float[Tensor, "neuron example"],
    weights: Float[Tensor, "curve neuron class"],
    orders: Int[Tensor, "curve neuron"],
    removed: Int[Tensor, " point"],
    emptied: Float[Tensor, "class example"],
    full: Float[Tensor, "class example"],
    labels: Int[Tensor, "labelling example"],
    *,
    losses: bool = True,
) -> tuple[Int[Tensor, "curve point labelling"], Float[Tensor, "curve point labelling"]]:
    """Count correct predictions and sum losses while neurons are ablated in several orders.

    The computation runs backwards from the network without neurons: each step restores one group by adding one product
    to a running sum. All steps of a curve together cost one product with the whole readout, and the fully ablated end
    is free of rounding.

    Args:
        change: the activation of each neuron minus its replacement.
        weights: the readout, its rows in the order of each curve.
        orders: each curve's neurons in the order of ablation.
        removed: number of neurons ablated at each point of a curve, ascending from 0 to all.
        emptied: logits with every neuron ablated.
        full: logits with no neuron ablated.
        labels: labels of the examples; one row per labelling.
        losses: whether to compute losses.

    Returns:
        number of correct predictions, and summed cross-entropy in nats (NaN without `losses`).
    """
    shape = len(orders), len(removed), len(labels)
    correct = torch.zeros(shape, dtype=torch.long)
    loss = torch.full(shape, torch.nan, dtype=torch.float64)

    logits, scratch, ordered = emptied.clone(), torch.empty_like(emptied), torch.empty_like(change)

    def measure(logits: Float[Tensor, "class example"], curve: int | slice, point: int) -> None:
        for index, row in enumerate(labels):
            hits, nats = outcomes(logits, row, losses=losses, scratch=scratch)
            correct[curve, point, index] = hits.count_nonzero()
            if nats is not None:
                loss[curve, point, index] = nats.sum(dtype=torch.float64)

    cuts = removed.tolist()
    measure(full.clone(), slice(None), 0)
    measure(logits, slice(None), len(cuts) - 1)
    for curve, order in enumerate(orders):
        logits.copy_(emptied)
        torch.index_select(change, 0, order, out=ordered)
        for point in range(len(cuts) - 2, 0, -1):
            group = slice(cuts[point], cuts[point + 1])
            logits.addmm_(rearrange(weights[curve, group], "neuron classes -> classes neuron"), ordered[group])
            measure(logits, curve, point)
    return correct, loss


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Flips:
    """Every pair (example, neuron) in which ablating that neuron alone changes the prediction.

    Attributes:
        neuron: the ablated neuron. Shape (flip).
        example: row of the example, in increasing order. Shape (flip).
        prediction: prediction without the neuron. Shape (flip).
        predicted: prediction of the whole network for every example. Shape (example).
        width: number of neurons.
    """

    neuron: Int[Tensor, " flip"]
    example: Int[Tensor, " flip"]
    prediction: Int[Tensor, " flip"]
    predicted: Int[Tensor, " example"]
    width: int

    def change(self, labels: Int[Tensor, " example"], among: Bool[Tensor, " example"]) -> Int[Tensor, " neuron"]:
        """Return the change in the number of correct examples when each neuron is ablated alone.

        Args:
            labels: the correct class of every example.
            among: the examples to count (a split).
        """
        wanted = labels[self.example]
        step = (self.prediction == wanted).long() - (self.predicted[self.example] == wanted).long()
        step = step * among[self.example]
        return torch.zeros(self.width, dtype=torch.long).index_add_(0, self.neuron, step)

    def lost(self, labels: Int[Tensor, " example"]) -> Bool[Tensor, " flip"]:
        """Return which flips lead from the label to another class."""
        return self.predicted[self.example] == labels[self.example]

    def gained(self, labels: Int[Tensor, " example"]) -> Bool[Tensor, " flip"]:
        """Return which flips lead to the label."""
        return self.prediction == labels[self.example]


def single_ablation_flips(
    hidden: Float[Tensor, "example neuron"],
    weights: Float[Tensor, "neuron class"],
    logits: Float[Tensor, "example class"],
    value: Float[Tensor, " neuron"] | None = None,
) -> Flips:
    """Find every prediction that changes when one neuron's activation is replaced.

    No labels are needed: the effect of a flip on accuracy follows from the predictions before and after it. Ties go to
    the lower class. Memory grows with the number of flips, not of pairs.

    Args:
        hidden: activations of the neurons.
        weights: readout; logits are hidden · weights, plus a constant per class.
        logits: the network's logits.
        value: replacement of each neuron's activation; 0 by default.
    """
    predicted = logits.argmax(1)
    if logits.shape[1] < 2 or not len(hidden) or not len(weights):
        none = predicted.new_zeros(0)
        return Flips(none, none, none, predicted, len(weights))
    margin = _margin(logits)
    # A decrease of the activation helps the class with the least weight most, an increase the class with the most.
    rows = rearrange(weights, "neuron classes -> classes neuron").contiguous()
    down, up = rows - rows.amin(0), rows.amax(0) - rows
    found = []
    for block in blocks(len(hidden), BOUND_ELEMENTS // len(weights)):
        moved = hidden[block] if value is None else hidden[block] - value
        reach = moved * down[predicted[block]]
        if bool((moved < 0).any()):
            reach = torch.maximum(reach, -moved * up[predicted[block]])
        example, neuron = (reach >= rearrange(margin[block], "example -> example 1")).nonzero(as_tuple=True)
        for part in blocks(len(example), EXACT_ELEMENTS // logits.shape[1]):
            row, column = example[part], neuron[part]
            step = rearrange(moved[row, column], "pair -> pair 1") * weights[column]
            row = row + block.start
            prediction = (logits[row] - step).argmax(1)
            flipped = prediction != predicted[row]
            found.append((column[flipped], row[flipped], prediction[flipped]))
    if not found:
        found.append((predicted[:0],) * 3)
    columns, examples, predictions = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Flips(columns, examples, predictions, predicted, len(weights))


def mean_loss_changes(
    hidden: Float[Tensor, "example neuron"],
    weights: Float[Tensor, "neuron class"],
    logits: Float[Tensor, "example class"],
    labels: Int[Tensor, " example"],
    value: Float[Tensor, " neuron"] | None = None,
) -> Float[Tensor, " neuron"]:
    """Return the exact rise of the mean cross-entropy when each neuron's activation is replaced.

    Every pair (example, neuron) costs a log-sum-exp over all classes, in bounded memory; no bound excludes pairs here.

    Args:
        hidden: activations of the neurons, at least one example.
        weights: readout; logits are hidden · weights, plus a constant per class.
        logits: the network's logits.
        labels: label of each example.
        value: replacement of each neuron's activation; 0 by default.

    Returns:
        nats per example, in float64.
    """
    own = weights[:, labels].T
    before = rearrange(logits.logsumexp(1), "example -> example 1")
    total = torch.zeros(len(weights), dtype=torch.float64)
    for rows in blocks(len(hidden), EXACT_ELEMENTS // logits.shape[1]):
        moved = hidden[rows] if value is None else hidden[rows] - value
        for columns in blocks(len(weights), EXACT_ELEMENTS // (logits.shape[1] * len(moved))):
            part = rearrange(moved[:, columns], "example neuron -> example neuron 1")
            changed = rearrange(logits[rows], "example classes -> example 1 classes") - part * weights[columns]
            after = changed.logsumexp(2) - before[rows]
            total[columns] += (after + moved[:, columns] * own[rows, columns]).double().sum(0)
    return total / len(hidden)


def _margin(logits: Float[Tensor, "example class"]) -> Float[Tensor, " example"]:
    """Lead of the largest logit over the next, less a bound on rounding; positive, so that no step of 0 reaches it."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    hidden_by_rounding = 16 * torch.finfo(logits.dtype).eps * logits.abs().amax(1)
    smallest = torch.nextafter(torch.zeros_like(first), torch.ones_like(first))
    return torch.maximum(first - second - hidden_by_rounding, smallest)
