"""How well a score finds some examples among all: three figures, for many reweightings of the examples at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.errors import ScoreError

FIGURES = ("auroc", "ap", "precision")


def detection_figures(
    scores: Float[np.ndarray, " example"],
    wanted: Bool[np.ndarray, " example"],
    weights: Float[np.ndarray, "resample example"],
) -> Float[np.ndarray, "resample figure"]:
    """Return the area under the ROC curve, average precision, and precision at the rate of the wanted examples.

    The last is the share of wanted ones among as many examples of highest score as are wanted; of examples that tie at
    the border, as many count as there is room for, in proportion. Ties count half in the area, and stand together in
    average precision, as in scikit-learn.

    Args:
        scores: what should be high for the wanted examples; may be infinite.
        wanted: which are to be found.
        weights: how often each example counts, a row per resample.

    Returns:
        the figures `FIGURES` of each resample; NaN where it holds only one kind of example.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    hits, misses = (np.add.reduceat(weights[:, order] * kind[order], starts, axis=1) for kind in (wanted, ~wanted))
    found, passed = hits.cumsum(1), misses.cumsum(1)
    total, others = found[:, -1:], passed[:, -1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        auroc = (hits * (others - passed + misses / 2)).sum(1) / (total * others)[:, 0]
        shown = found + passed
        ap = np.where(shown > 0, hits / total * found / np.where(shown > 0, shown, 1), 0).sum(1)
        # How much of each group of ties is among the first `total` examples.
        group = hits + misses
        room = np.clip(total - (shown - group), 0, group)
        precision = (np.where(group > 0, hits / np.where(group > 0, group, 1), 0) * room).sum(1) / total[:, 0]
    both = (total[:, 0] > 0) & (others[:, 0] > 0)
    return np.where(both[:, None], np.stack([auroc, ap, precision], 1), np.nan)


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
