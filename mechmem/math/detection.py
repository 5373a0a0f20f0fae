"""Detection figures of a score for many resamples at once, and memorization estimated from subsets."""

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
    """Return the area under the ROC curve, average precision, and precision at the number of wanted examples.

    The last is the fraction of wanted examples among equally many examples with the highest scores; examples tied at
    the border count in proportion to the places left. Ties count half in the area and as one threshold in average
    precision, as in scikit-learn.

    Args:
        scores: scores that should be high for the wanted examples; may be infinite.
        wanted: the examples to find.
        weights: multiplicity of each example, one row per resample.

    Returns:
        the figures `FIGURES` of each resample; NaN if it has only one kind of example.
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
        # Part of each group of ties that is among the first `total` examples.
        group = hits + misses
        room = np.clip(total - (shown - group), 0, group)
        precision = (np.where(group > 0, hits / np.where(group > 0, group, 1), 0) * room).sum(1) / total[:, 0]
    both = (total[:, 0] > 0) & (others[:, 0] > 0)
    return np.where(both[:, None], np.stack([auroc, ap, precision], 1), np.nan)


@dataclasses.dataclass(frozen=True, eq=False)
class SubsetEstimate:
    """Difference of two accuracies over networks, per training example, or per training example and target example.

    Attributes:
        values: accuracy of the networks trained on the example minus that of the others, in [−1, 1]; 0 if there are no
            networks of one kind. Shape (source) or (source, example).
        errors: standard errors; infinite if there are no networks of one kind. Same shape as the values.
        trained_on: number of networks trained on each example. Shape (source).
        left_out: number of networks not trained on it. Shape (source).
    """

    values: Tensor
    errors: Tensor
    trained_on: Int[Tensor, " source"]
    left_out: Int[Tensor, " source"]


def memorization(member: Bool[Tensor, "network source"], right: Bool[Tensor, "network source"]) -> SubsetEstimate:
    """Return mem_i = P[right on i | i in S] − P[right on i | i not in S], with standard errors.

    With r correct predictions among the n networks of one kind, the standard error is √(Σ p̃ (1 − p̃) / n) over both
    kinds, p̃ = (r + 1) / (n + 2): that of a difference of two proportions, each estimated by Laplace's rule. With r / n
    instead (Welch's) it would be 0 whenever the networks of each kind agree, however few they are.

    Args:
        member: which networks were trained on which example.
        right: which networks predict the example's given label.

    Raises:
        ScoreError: the shapes differ, or there are no networks.
    """
    if member.shape != right.shape:
        raise ScoreError(f"predictions of shape {tuple(right.shape)} for members of shape {tuple(member.shape)}")
    trained_on = _checked_counts(member)
    inside = reduce(member & right, "network source -> source", "sum")
    outside = reduce(~member & right, "network source -> source", "sum")
    return _difference(inside, outside, trained_on, len(member) - trained_on)


def subset_influence(member: Bool[Tensor, "network source"], right: Bool[Tensor, "network example"]) -> SubsetEstimate:
    """Return infl(i, j) = P[right on j | i in S] − P[right on j | i not in S], with standard errors.

    Errors are as in `memorization`, which is the diagonal if the target examples are the training examples.

    Args:
        member: which networks were trained on which example.
        right: which networks predict which target example correctly.

    Raises:
        ScoreError: the numbers of networks differ, or there are none.
    """
    if len(member) != len(right):
        raise ScoreError(f"predictions of {len(right)} networks for members of {len(member)}")
    trained_on = _checked_counts(member)
    # Counts up to 2⁵³ are exact in float64, whose matrix product is fast; booleans have none.
    correct, belongs = right.double(), member.double()
    inside = (belongs.T @ correct).long()
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
