"""Predictions, margins and contributions of neurons, from logits."""

from __future__ import annotations

import dataclasses
import math

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.errors import ConfigError, NotFiniteError
from mechmem.math.blocks import blocks

NOT_FINITE = -1
"""Prediction of an example with a NaN or infinite score."""
BLOCK_ELEMENTS = 2**20
"""Number of contributions held at once."""
SUMS_TO_ONE = 1e-2
"""Largest difference from 1 of the sum of an example's probabilities, in bfloat16 too."""
ENOUGH = 8
"""Fewest examples that tell probabilities from logits."""


def answers_of(scores: Float[Tensor, "*edit example class"]) -> Int[Tensor, "*edit example"]:
    """Return the class with the highest score, ties to the lowest class; `NOT_FINITE` if a score is not finite."""
    if not scores.numel():
        return torch.zeros(scores.shape[:-1], dtype=torch.long)
    # A row is finite if its minimum and maximum are (NaN propagates to both); a mask of all scores would be as large.
    finite = torch.isfinite(scores.amin(-1)) & torch.isfinite(scores.amax(-1))
    return torch.where(finite, scores.argmax(-1), NOT_FINITE)


def correct_of(
    scores: Float[Tensor, "*edit example class"], labels: Int[Tensor, "*labelling example"]
) -> Float[Tensor, "... example"]:
    """Return 1 for a correct prediction, 0 for a wrong one, and NaN where a score is not finite.

    Sums and means are NaN then, so that a network without an answer has no accuracy.
    """
    return correct(answers_of(scores), labels)


def correct(
    answers: Int[Tensor, "*edit example"], labels: Int[Tensor, "*labelling example"]
) -> Float[Tensor, "... example"]:
    """Return the same as `correct_of` for answers that are known already."""
    return torch.where(answers == NOT_FINITE, torch.nan, (answers == labels).double())


def all_finite(values: Float[Tensor, ...]) -> bool:
    """Return whether no value is NaN or infinite.

    The extremes of values with a NaN are NaN; testing every value would take as much memory again.
    """
    return not values.numel() or all(bool(extreme.isfinite()) for extreme in values.aminmax())


def check_finite(values: Float[Tensor, ...], what: str) -> None:
    """Refuse values that are not finite.

    Args:
        values: the values, one row per example, neuron or symbol.
        what: what they are, in the plural: "the logits".

    Raises:
        NotFiniteError: a value is NaN or infinite.
    """
    if all_finite(values):
        return
    rows = (~values.isfinite()).reshape(len(values), -1).any(1).nonzero().flatten()
    raise NotFiniteError(
        f"{what} are NaN or infinite in {len(rows)} of {len(values)} rows (the first is row {int(rows[0])})"
    )


def at_label(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return each row's value at its label."""
    return logits.gather(1, rearrange(labels, "cell -> cell 1"))[:, 0]


def strongest_rival(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Int[Tensor, " cell"]:
    """Return each row's strongest class other than its label, ties to the lowest class."""
    return logits.scatter(1, rearrange(labels, "cell -> cell 1"), -math.inf).argmax(1)


def refuse_probabilities(values: Float[Tensor, "example class"]) -> None:
    """Refuse what a softmax returned, whose losses, margins and gradients are not those of the network.

    Taken are fewer than `ENOUGH` examples, whose logits may sum to 1 by chance, and shares of votes, which have zeros
    where a softmax has none but by underflow.

    Raises:
        ConfigError: no value is negative, those of every example sum to 1, and most examples have no zero.
    """
    if len(values) < ENOUGH:
        return
    for part in (values[:ENOUGH], values):  # of nearly all logits, the first few say it
        if bool((part < 0).any()) or bool(((part.sum(1) - 1).abs() >= SUMS_TO_ONE).any()):
            return
    if 2 * int((values > 0).all(1).sum()) > len(values):
        raise ConfigError(
            "the model returns probabilities (none is negative, and those of an example sum to 1), and losses and "
            "margins are those of logits: let it return what it has before its softmax, or log-probabilities"
        )


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


def log_odds(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return log p / (1 − p) of each cell's label: its logit minus the logarithm of the others' summed exponentials."""
    own = torch.arange(logits.shape[1], device=logits.device) == labels[:, None]
    return logits.masked_fill(~own, 0).sum(1) - logits.masked_fill(own, -torch.inf).logsumexp(1)
