"""Clusters of neurons whose vectors lie in common subspaces, and the part of each vector that its cluster shares.

A neuron that generalizes reads and writes the same few directions as others of its kind, and what it memorizes is its
own. So neurons are clustered by the subspaces of their vectors, one per role (an input vector per operand, an output
vector), and each vector is replaced by what the other neurons of its cluster predict of it. No symbol, class or label
has a meaning here: a permutation of the entries of a role, the same for all neurons, permutes the result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from torch import Tensor

from mechmem.core.randomness import derive_seed, generator
from mechmem.math.blocks import blocks

Vectors = Sequence[Float[Tensor, "_ neuron"]]
"""One matrix per role, of shape (entry, neuron); roles may differ in the number of entries."""

ROUNDS = 30
"""Most rounds of assigning neurons to clusters."""

SETTLED = 0.005
"""Share of neurons that may still move in the last round."""

AT_ONCE = 2**23
"""Numbers held at once in the products of filters and directions."""

STARTS, FOLD_STARTS = 10, 2
"""Starts of k-means; fewer where a number of clusters is tried, because the rounds that follow forgive a poor one."""

LEAST_WEIGHT = 1e-3
"""Least share of its energy that a neuron counts with, so that no cluster is left without weight."""

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

DENSE = 1024
"""Most neurons whose affinities are decomposed in full; above it the top eigenvectors are found by Lanczos."""


def directions(vectors: Vectors) -> tuple[list[Float[Tensor, "_ live"]], Bool[Tensor, " neuron"]]:
    """Return the vectors of the live neurons without their means and of length 1, and which neurons are live.

    A neuron is dead if one of its vectors is constant up to rounding.
    """
    centred = [each.double() - each.double().mean(0) for each in vectors]
    live = torch.ones(vectors[0].shape[1], dtype=torch.bool)
    for each, raw in zip(centred, vectors, strict=True):
        rounding = torch.finfo(raw.dtype).eps if raw.is_floating_point() else 0.0
        live &= each.norm(dim=0) > 4 * rounding * raw.double().norm(dim=0)
    return [each[:, live] / each[:, live].norm(dim=0) for each in centred], live


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Live neurons in clusters, with the second moments of each role's directions in each cluster.

    Attributes:
        cluster: each neuron's cluster, from 0. Shape (neuron).
        weight: weight of each neuron in its cluster's moments. Shape (neuron).
        moments: per role Σ weight · x xᵀ over a cluster's neurons. Shape (cluster, entry, entry) each.
        strength: the shrinkage λ of the filters M (M + λ/n)⁻¹, n being the number of entries.
    """

    cluster: Int[Tensor, " neuron"]
    weight: Float[Tensor, " neuron"]
    moments: tuple[Float[Tensor, "cluster _ _"], ...]
    strength: float

    @property
    def totals(self) -> Float[Tensor, " cluster"]:
        """Total weight of each cluster."""
        return torch.zeros(len(self.moments[0]), dtype=torch.float64).index_add_(0, self.cluster, self.weight)

    def means(self) -> list[Float[Tensor, "cluster _ _"]]:
        """Return per role the weighted mean of x xᵀ over each cluster, of trace 1; 0 for a cluster without neurons."""
        totals = rearrange(_positive(self.totals), "cluster -> cluster 1 1")
        return [moments / totals for moments in self.moments]

    def spectra(self) -> list[Float[Tensor, "cluster _"]]:
        """Return per role the eigenvalues of each cluster's mean of x xᵀ, in descending order."""
        return [torch.linalg.eigvalsh(mean).clamp_min(0).flip(1) for mean in self.means()]

    def filters(self) -> list[Float[Tensor, "cluster _ _"]]:
        """Return per role the filter F = M (M + λ/n)⁻¹ of each cluster, M being its weighted mean of x xᵀ."""
        found = []
        for mean in self.means():
            ridge = self.strength / mean.shape[-1] * torch.eye(mean.shape[-1], dtype=mean.dtype)
            # F is symmetric, because M commutes with its own shrunken inverse.
            found.append(torch.linalg.solve(mean + ridge, mean))
        return found

    def energies(self, units: Vectors) -> Float[Tensor, "role cluster neuron"]:
        """Return the energy of each direction in each cluster's subspace, minus its mean over random directions.

        xᵀ F x − tr F / n; at most 1.
        """
        return torch.stack([_energy(each, filters) for each, filters in zip(units, self.filters(), strict=True)])


def _energy(
    units: Float[Tensor, "entry neuron"], filters: Float[Tensor, "cluster entry entry"]
) -> Float[Tensor, "cluster neuron"]:
    chance = reduce(torch.diagonal(filters, dim1=1, dim2=2), "cluster entry -> cluster 1", "mean")
    entries, neurons = units.shape
    found = []
    for block in blocks(len(filters), AT_ONCE // (entries * neurons)):
        products = rearrange(filters[block], "cluster row entry -> (cluster row) entry") @ units
        found.append((rearrange(products, "(cluster row) neuron -> cluster row neuron", row=entries) * units).sum(1))
    return torch.cat(found) - chance


def affinity(units: Vectors) -> Float[Tensor, "neuron neuron"]:
    """Return Σ over roles of (x_m · x_n)⁴ for every two neurons, 0 on the diagonal."""
    total = torch.zeros(units[0].shape[1], units[0].shape[1], dtype=torch.float64)
    for each in units:
        # In place, because at thousands of neurons each such matrix takes a gigabyte.
        total += (each.T @ each).square_().square_()
    return total.fill_diagonal_(0)


def embedding(
    affinities: Float[Tensor, "neuron neuron"], width: int, seed: int
) -> Float[np.ndarray, "neuron component"]:
    """Return the top eigenvectors of the normalised affinities, by descending eigenvalue (Ng, Jordan & Weiss 2001)."""
    scale = affinities.sum(1).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    normal = (affinities * scale).mul_(rearrange(scale, "neuron -> neuron 1")).numpy()
    n = len(normal)
    if n <= max(DENSE, 4 * width):
        return eigh(normal, subset_by_index=(n - width, n - 1))[1][:, ::-1]
    start = torch.rand(n, generator=generator(seed, "embedding"), dtype=torch.float64).numpy()
    values, found = eigsh(normal, width, which="LA", v0=start, tol=1e-6)  # pyright: ignore[reportArgumentType]
    return found[:, np.argsort(-values)]


def cluster(
    units: Vectors, top: Float[np.ndarray, "neuron component"], strength: float, seed: int, starts: int = STARTS
) -> Clusters:
    """Cluster neurons, as many clusters as there are components.

    K-means on the embedding, its rows of length 1, is the start. Then each neuron goes to the cluster in whose
    subspaces its directions have the most energy (see `Clusters.energies`), and counts there with the square of that
    energy's mean over roles, until hardly a neuron moves.

    Args:
        units: directions (see `directions`).
        top: top eigenvectors of the affinities.
        strength: shrinkage of the filters.
        seed: seed of k-means.
        starts: starts of k-means.
    """
    from sklearn.cluster import KMeans  # here, because it takes most of a second to import

    count = top.shape[1]
    rows = top / np.maximum(np.linalg.norm(top, axis=1, keepdims=True), np.finfo(float).tiny)
    draw = derive_seed(seed, "k-means") % 2**32
    means = KMeans(count, n_init=starts, random_state=draw).fit(rows)  # pyright: ignore[reportArgumentType]
    own = torch.from_numpy(means.labels_).long()
    found = _gathered(units, own, torch.ones(len(own), dtype=torch.float64), count, strength)
    for _ in range(ROUNDS):
        energy = found.energies(units).mean(0)
        best = energy.max(0)
        weight = best.values.clamp_min(LEAST_WEIGHT).square()
        moved = int((best.indices != own).sum())
        own = best.indices
        found = _gathered(units, own, weight, count, strength)
        if moved <= SETTLED * len(own):
            break
    return found


def _gathered(
    units: Vectors, own: Int[Tensor, " neuron"], weight: Float[Tensor, " neuron"], count: int, strength: float
) -> Clusters:
    order = own.argsort()
    sizes = torch.bincount(own, minlength=count).tolist()
    moments = []
    for each in units:
        members, weighted = each[:, order].split(sizes, 1), (each * weight)[:, order].split(sizes, 1)
        moments.append(torch.stack([left @ right.T for left, right in zip(weighted, members, strict=True)]))
    return Clusters(own, weight, tuple(moments), strength)


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


def _positive(values: Tensor) -> Tensor:
    return values.where(values > 0, 1)
