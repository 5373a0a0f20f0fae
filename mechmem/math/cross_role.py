"""The number of clusters of neurons, chosen by what a held-out neuron's roles say of each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from mechmem.core.randomness import generator
from mechmem.math.subspaces import Vectors, affinity, cluster, embedding

FOLD_STARTS = 2
"""Starts of k-means, fewer than for the chosen number: the rounds that follow forgive a poor one."""

FOLDS = 3
"""Folds of neurons from which the number of clusters is chosen."""

WITHIN = 0.98
"""A smaller number of clusters is chosen if it reaches this share of the largest cross-role energy."""

CANDIDATES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)
"""Numbers of clusters that are tried."""

PER_CLUSTER = 4
"""Least mean number of neurons per cluster in a fold."""

LEAST = 12
"""Least number of neurons for which a number of clusters can be chosen: two clusters of four in two folds of three."""


@dataclasses.dataclass(frozen=True, eq=False)
class CrossRole:
    """Energy of a held-out neuron's direction in the cluster that its other directions choose.

    Attributes:
        count: number of clusters.
        observed: its mean over roles and neurons, less what random directions have; one value per fold.
        permuted: the same of another held-out neuron's direction, averaged over all neurons. One value per fold.
    """

    count: int
    observed: Float[Tensor, " fold"]
    permuted: Float[Tensor, " fold"]

    @property
    def excess(self) -> float:
        """Mean over folds of the difference."""
        return float((self.observed - self.permuted).mean())


def cross_role_energies(
    units: Vectors, counts: Sequence[int], strength: float, seed: int, folds: int = FOLDS
) -> list[CrossRole]:
    """Return the cross-role energy for several numbers of clusters.

    Clusters are fitted on the neurons of the other folds.

    Args:
        units: directions, of at least two roles.
        counts: numbers of clusters.
        strength: shrinkage of the filters.
        seed: seed of the folds and of k-means.
        folds: number of folds.
    """
    neurons = units[0].shape[1]
    fold = torch.randperm(neurons, generator=generator(seed, "folds of neurons")) % folds
    affinities = affinity(units)
    found: dict[int, list[tuple[float, float]]] = {count: [] for count in counts}
    for held in range(folds):
        inside, outside = (fold != held).nonzero()[:, 0], (fold == held).nonzero()[:, 0]
        fitted = [each[:, inside] for each in units]
        top = embedding(affinities[inside][:, inside], max(counts), seed)
        for count in counts:
            clusters = cluster(fitted, top[:, :count], strength, seed, FOLD_STARTS)
            found[count].append(_crossed(clusters.energies([each[:, outside] for each in units])))
    return [CrossRole(count, *torch.tensor(pairs, dtype=torch.float64).T) for count, pairs in found.items()]


def _crossed(energies: Float[Tensor, "role cluster neuron"]) -> tuple[float, float]:
    """Return the mean energy of each role in the cluster that the others choose, and its mean over permutations."""
    observed, permuted = [], []
    for role in range(len(energies)):
        chosen = (energies.sum(0) - energies[role]).argmax(0)
        observed.append(energies[role].gather(0, rearrange(chosen, "neuron -> 1 neuron")).mean())
        # Exactly: every neuron's direction in the cluster of every neuron.
        permuted.append(energies[role].mean(1)[chosen].mean())
    return float(torch.stack(observed).mean()), float(torch.stack(permuted).mean())


def candidates(neurons: int) -> tuple[int, ...]:
    """Return the numbers of clusters that are tried for so many live neurons."""
    return tuple(each for each in CANDIDATES if each * PER_CLUSTER <= neurons * (FOLDS - 1) // FOLDS)


def chosen_count(tried: Sequence[CrossRole]) -> int:
    """Return the number of clusters with the largest excess, or a smaller one that comes within 2 % of it."""
    best = max(each.excess for each in tried)
    reached = best * WITHIN if best > 0 else best
    return min(each.count for each in tried if each.excess >= reached)
