"""Removing neurons one group after another from logits that are linear in them, on bare tensors.

Classes come first and examples last here: a group of neurons is then a block of rows, and every reduction over classes
runs along whole rows of examples.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor


def outcomes(
    logits: Float[Tensor, "class example"],
    labels: Int[Tensor, " example"],
    *,
    losses: bool = True,
    scratch: Float[Tensor, "class example"] | None = None,
) -> tuple[Bool[Tensor, " example"], Float[Tensor, " example"] | None]:
    """Tell which predictions are the label, and each example's cross-entropy.

    The label's logit is compared with the largest other one, which costs a fraction of an argmax and says the same: of
    equal logits the lowest class is predicted. The loss is a logarithm of 1 + (the other classes' share), so that a
    loss far below the rounding of a logit is not lost.

    Args:
        logits: one column per example; changed in between, and left as it was.
        labels: the class that each example is compared with.
        losses: whether the losses are wanted; their exponentials take more time than everything else.
        scratch: memory for the exponentials, to be used again: fetching it anew would take as long as filling it.

    Returns:
        whether the prediction is the label, and the cross-entropy in nats (None where it is not wanted).
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
    """Count correct predictions and sum losses while neurons are removed in several orders.

    Works backwards, from the network without neurons: each step brings back one group, by one product that is added to
    a running sum. All steps of a curve cost one product with the whole readout, and where everything is removed nothing
    is left of rounding.

    Args:
        change: what a neuron's ablation takes away from its activation: the activation less what replaces it.
        weights: the readout, its rows in the order of each curve.
        orders: each curve's neurons, the first to go first.
        removed: how many neurons are gone at each point; rises from 0 to all of them.
        emptied: logits with every neuron replaced.
        full: logits with none replaced.
        labels: the classes that predictions are compared with; one row per way of labelling the examples.
        losses: whether the losses are wanted.

    Returns:
        number of correct predictions, and summed cross-entropy in nats (NaN where losses are not wanted).
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
