"""Memorization and influence from many networks, each trained on a random subset of the examples.

Feldman & Zhang 2020 (arXiv 2008.03703), section 2: what an example changes is the difference between networks that were
trained on it and networks that were not.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.errors import ScoreError


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetEstimate:
    """A difference of two shares of networks, per training example, or per training example and example answered.

    Attributes:
        values: share of right answers among the networks trained on the example, minus that among the others; in
            [−1, 1]. 0 where there are no networks of one kind. Shape (source) or (source, example).
        errors: standard errors; infinite where there are no networks of one kind. Shape as of the values.
        trained_on: how many networks were trained on each example. Shape (source).
        left_out: how many were not. Shape (source).
    """

    values: Tensor
    errors: Tensor
    trained_on: Int[Tensor, " source"]
    left_out: Int[Tensor, " source"]


def memorization(member: Bool[Tensor, "network source"], right: Bool[Tensor, "network source"]) -> SubsetEstimate:
    """Return mem_i = P[right on i | i in S] − P[right on i | i not in S], with standard errors.

    With r right answers among the n networks of one kind, the standard error is √(Σ p̃ (1 − p̃) / n) over both kinds,
    p̃ = (r + 1) / (n + 2): that of a difference of two shares, with each chance estimated by Laplace's rule. With r / n
    in its place (Welch's) it would be 0 wherever the networks of each kind agree, however few they are.

    Args:
        member: which networks were trained on which example.
        right: which networks answer the example with its given label.

    Raises:
        ScoreError: the two have other shapes, or there are no networks.
    """
    if member.shape != right.shape:
        raise ScoreError(f"right answers of shape {tuple(right.shape)} for members of shape {tuple(member.shape)}")
    trained_on = _checked_counts(member)
    inside = reduce(member & right, "network source -> source", "sum")
    outside = reduce(~member & right, "network source -> source", "sum")
    return _difference(inside, outside, trained_on, len(member) - trained_on)


def influence(member: Bool[Tensor, "network source"], right: Bool[Tensor, "network example"]) -> SubsetEstimate:
    """Return infl(i, j) = P[right on j | i in S] − P[right on j | i not in S], with standard errors.

    These are as of `memorization`, which is the diagonal where the examples answered are the training examples.

    Args:
        member: which networks were trained on which example.
        right: which networks answer which example as it should be.

    Raises:
        ScoreError: the two are not of the same networks, or there are none.
    """
    if len(member) != len(right):
        raise ScoreError(f"right answers of {len(right)} networks for members of {len(member)}")
    trained_on = _checked_counts(member)
    # Counts up to 2⁵³ are whole numbers in float64, and its product is a matrix product, which that of bits is not.
    answered, belongs = right.double(), member.double()
    inside = (belongs.T @ answered).long()
    outside = reduce(right, "network example -> example", "sum") - inside
    return _difference(inside, outside, trained_on, len(member) - trained_on)


def _checked_counts(member: Bool[Tensor, "network source"]) -> Int[Tensor, " source"]:
    if not len(member):
        raise ScoreError("memorization needs at least one network, got 0")
    return reduce(member, "network source -> source", "sum")


def _difference(
    inside: Int[Tensor, " source *example"],
    outside: Int[Tensor, " source *example"],
    trained_on: Int[Tensor, " source"],
    left_out: Int[Tensor, " source"],
) -> SubsetEstimate:
    known = (trained_on > 0) & (left_out > 0)
    counts = [trained_on, left_out]
    if inside.ndim > 1:
        known, *counts = (rearrange(each, "source -> source 1") for each in (known, *counts))
    shares, variances = [], []
    for right, n in zip((inside.double(), outside.double()), counts, strict=True):
        shares.append(right / n.clamp_min(1))
        pulled = (right + 1) / (n + 2)
        variances.append(pulled * (1 - pulled) / n.clamp_min(1))
    values = torch.where(known, shares[0] - shares[1], 0.0)
    errors = torch.where(known, (variances[0] + variances[1]).sqrt(), torch.inf)
    return SubsetEstimate(values, errors, trained_on, left_out)
