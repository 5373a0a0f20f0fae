"""What each neuron of a linear readout adds to one logit per example."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.blocks import blocks

BLOCK_ELEMENTS = 2**20
"""Contributions that are held at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class LogitShares:
    """What neurons contribute to the centred logit of one class per example.

    Attributes:
        top: the neurons that contribute most, the first one first. Shape (example, rank).
        contribution: their contributions. Shape (example, rank).
        total: sum of all contributions. Shape (example).
        positive: sum of the positive ones. Shape (example).
        among: sum over the neurons of a set (0 without one). Shape (example).
        participation: fewest neurons that make half of the positive sum; 0 where it is 0. Shape (example).
    """

    top: Int[Tensor, "example rank"]
    contribution: Float[Tensor, "example rank"]
    total: Float[Tensor, " example"]
    positive: Float[Tensor, " example"]
    among: Float[Tensor, " example"]
    participation: Int[Tensor, " example"]


def logit_shares(
    hidden: Float[Tensor, "example neuron"],
    weights: Float[Tensor, "neuron class"],
    labels: Int[Tensor, " example"],
    ranks: int,
    among: Bool[Tensor, " neuron"] | None = None,
) -> LogitShares:
    """Split the centred logit of each example's label into the contributions h_m (w_m,label − mean_c w_mc) of neurons.

    They sum to the label's logit, less the mean over classes and the bias. The matrix of all contributions is never
    held; sums are taken in float64.

    Args:
        hidden: activations of the neurons.
        weights: readout.
        labels: the class whose logit is split.
        ranks: how many of the largest contributions are kept per example, at most.
        among: a set of neurons whose contributions are summed apart.
    """
    centred = rearrange(weights - weights.mean(1, keepdim=True), "neuron classes -> classes neuron").contiguous()
    width = len(weights)
    inside = (torch.zeros(width) if among is None else among).to(torch.float64)
    parts = []
    for block in blocks(max(1, len(hidden)), BLOCK_ELEMENTS // max(1, width)):
        contribution = (hidden[block] * centred[labels[block]]).double()
        largest = contribution.topk(min(ranks, width), dim=1)
        descending = contribution.clamp_min(0).sort(1, descending=True).values.cumsum(1)
        positive = descending[:, -1]
        # The neurons before the one whose share completes the half, and that one.
        before = reduce(
            descending < rearrange(positive / 2, "example -> example 1"), "example neuron -> example", "sum"
        )
        participation = torch.where(positive > 0, before.long() + 1, 0)
        sums = contribution.sum(1), positive, contribution @ inside
        parts.append((largest.indices, largest.values, *sums, participation))
    return LogitShares(*(torch.cat(column) for column in zip(*parts, strict=True)))
