"""Predictions, margins and contributions of neurons, from logits."""

from __future__ import annotations

import dataclasses
import math

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.blocks import blocks

NOT_FINITE = -1
"""Prediction of an example with a NaN or infinite score."""
BLOCK_ELEMENTS = 2**20
"""Number of contributions held at once."""


def answers_of(scores: Float[Tensor, "example class"]) -> Int[Tensor, " example"]:
    """Return the class with the highest score, ties to the lowest class; `NOT_FINITE` if a score is not finite."""
    if not len(scores):
        return torch.zeros(0, dtype=torch.long)
    # A row is finite if its minimum and maximum are (NaN propagates to both); a mask of all scores would be as large.
    finite = torch.isfinite(scores.amin(1)) & torch.isfinite(scores.amax(1))
    return torch.where(finite, scores.argmax(1), NOT_FINITE)


def at_label(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return each row's value at its label."""
    return logits.gather(1, rearrange(labels, "cell -> cell 1"))[:, 0]


def strongest_rival(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Int[Tensor, " cell"]:
    """Return each row's strongest class other than its label, ties to the lowest class."""
    return logits.scatter(1, rearrange(labels, "cell -> cell 1"), -math.inf).argmax(1)


def margins(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return each row's value at its label minus that of its strongest rival."""
    return at_label(logits, labels) - at_label(logits, strongest_rival(logits, labels))


@dataclasses.dataclass(frozen=True, eq=False)
class LogitShares:
    """Contributions of neurons to the centred logit of one class per example.

    Attributes:
        top: the neurons that contribute most, in descending order. Shape (example, rank).
        contribution: their contributions. Shape (example, rank).
        total: sum of all contributions. Shape (example).
        positive: sum of the positive contributions. Shape (example).
        among: sum over the neurons of a set (0 without one). Shape (example).
        participation: smallest number of neurons that make up half of the positive sum; 0 if that is 0. Shape
            (example).
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

    They sum to the label's logit minus the mean over classes and the bias. The matrix of all contributions is never
    held in memory; sums are in float64.

    Args:
        hidden: activations of the neurons.
        weights: readout.
        labels: label of each example.
        ranks: largest number of top contributions kept per example.
        among: a set of neurons whose contributions are summed separately.
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
        # The neurons before the one that completes the half, plus that one.
        before = reduce(
            descending < rearrange(positive / 2, "example -> example 1"), "example neuron -> example", "sum"
        )
        participation = torch.where(positive > 0, before.long() + 1, 0)
        sums = contribution.sum(1), positive, contribution @ inside
        parts.append((largest.indices, largest.values, *sums, participation))
    return LogitShares(*(torch.cat(column) for column in zip(*parts, strict=True)))
