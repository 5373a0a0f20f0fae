"""Exact Shapley values of nearest neighbours, and how well attributions predict networks trained on subsets."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechmem.core.stats import Estimate, check_resamples, rank_correlation


def knn_shapley(
    distances: Float[Tensor, "target example"], same: Bool[Tensor, "target example"], k: int
) -> Float[Tensor, "target example"]:
    """Return each example's Shapley value in the prediction for each target.

    The value of a set of examples is the share of the k votes that its k nearest examples give to the target's label; a
    set of fewer than k gives fewer votes. (Jia et al. 2019, arXiv 1908.08619, theorem 1.) At equal distances the first
    examples are nearer.

    Args:
        distances: distance of each example from each target. An example at infinity is no player: its value is 0.
        same: whether the example has the target's label.
        k: number of votes.
    """
    order = torch.argsort(distances, dim=1, stable=True)
    players = distances.isfinite().sum(1, keepdim=True).double()
    votes = same.gather(1, order).double()
    rank = torch.arange(1, distances.shape[1] + 1, device=distances.device, dtype=torch.float64)
    # Step from an example to the next one farther away; beyond the last player there is nothing.
    steps = votes.clone()
    steps[:, :-1] -= votes[:, 1:]
    steps *= rank.clamp_max(k) / (rank * k)
    last = rank == players
    steps = torch.where(last, votes * players.clamp_max(k) / (players * k), steps).masked_fill(rank > players, 0)
    ordered = steps.flip(1).cumsum(1).flip(1)
    return torch.zeros_like(ordered).scatter(1, order, ordered)


def datamodeling_correlations(
    attributions: Float[np.ndarray, "target source"],
    member: Bool[np.ndarray, "network source"],
    outputs: Float[np.ndarray, "network target"],
) -> Float[np.ndarray, " target"]:
    """Return Spearman's correlation, over networks, of each target's output with the attributions of the subset.

    A subset's attribution is the sum of those of its examples. (Park et al. 2023, arXiv 2303.14186, section 2; Ilyas et
    al. 2022, arXiv 2202.00622.)

    Args:
        attributions: influence of each source on each target.
        member: which networks were trained on which source.
        outputs: what each network says of each target, e.g. the margin of its label.
    """
    return rank_correlation(attributions @ member.T.astype(float), outputs.T)


def datamodeling_score(
    attributions: Float[np.ndarray, "target source"],
    member: Bool[np.ndarray, "network source"],
    outputs: Float[np.ndarray, "network target"],
    *,
    seed: int,
    resamples: int = 1000,
) -> Estimate:
    """Return the mean over targets of `datamodeling_correlations`, with its 95 % percentile bootstrap interval.

    Targets and networks are resampled together, so that the interval covers other targets and other subsets.
    """
    check_resamples(resamples)
    predicted = attributions @ member.T.astype(float)
    value = float(rank_correlation(predicted, outputs.T).mean())
    draw = np.random.default_rng(seed)
    found = np.empty(resamples)
    for number in range(resamples):
        targets, networks = (draw.integers(size, size=size) for size in predicted.shape)
        cut = np.ix_(targets, networks)
        found[number] = rank_correlation(predicted[cut], outputs.T[cut]).mean()
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(predicted))
