"""Clusters of neurons whose vectors lie in common subspaces, and the part of each vector that its cluster shares.

A neuron that generalizes reads and writes the same few directions as others of its kind, and what it memorizes is its
own. So neurons are clustered by the subspaces of their vectors, one per role (an input vector per operand, an output
vector), and each vector is replaced by what the other neurons of its cluster predict of it. No symbol, class or label
has a meaning here: a permutation of the entries of a role, the same for all neurons, permutes the result.
"""

from __future__ import annotations

import dataclasses
import functools
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

STARTS = 10
"""Starts of k-means."""

LEAST_WEIGHT = 1e-3
"""Least share of its energy that a neuron counts with, so that no cluster is left without weight."""

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
    """Live neurons in clusters.

    Attributes:
        units: per role the neurons' directions. Shape (entry, neuron) each.
        cluster: each neuron's cluster, from 0. Shape (neuron).
        weight: weight of each neuron in its cluster's moments. Shape (neuron).
        count: number of clusters.
        strength: the shrinkage λ of the filters M (M + λ/n)⁻¹, n being the number of entries.
    """

    units: tuple[Float[Tensor, "_ neuron"], ...]
    cluster: Int[Tensor, " neuron"]
    weight: Float[Tensor, " neuron"]
    count: int
    strength: float

    @functools.cached_property
    def totals(self) -> Float[Tensor, " cluster"]:
        """Total weight of each cluster."""
        return torch.zeros(self.count, dtype=torch.float64).index_add_(0, self.cluster, self.weight)

    @functools.cached_property
    def moments(self) -> tuple[Float[Tensor, "cluster _ _"], ...]:
        """Per role Σ weight · x xᵀ over a cluster's neurons. Shape (cluster, entry, entry) each."""
        every = torch.arange(self.count)
        return tuple(self._moments(role, every) for role in range(len(self.units)))

    @functools.cached_property
    def _members(self) -> tuple[Int[Tensor, " member"], ...]:
        return self.cluster.argsort().split(torch.bincount(self.cluster, minlength=self.count).tolist())

    def _moments(self, role: int, chosen: Int[Tensor, " one"]) -> Float[Tensor, "one _ _"]:
        x, members = self.units[role], self._members
        products = [(x[:, own] * self.weight[own]) @ x[:, own].T for own in (members[each] for each in chosen.tolist())]
        return torch.stack(products)

    def spectra(self) -> list[Float[Tensor, "cluster _"]]:
        """Return per role the eigenvalues of each cluster's mean of x xᵀ, in descending order; of sum 1, or all 0."""
        totals = rearrange(_positive(self.totals), "cluster -> cluster 1 1")
        return [torch.linalg.eigvalsh(moments / totals).clamp_min(0).flip(1) for moments in self.moments]

    def energies(self, units: Vectors) -> Float[Tensor, "role cluster neuron"]:
        """Return the energy of each direction in each cluster's subspace, minus its mean over random directions.

        xᵀ F x − tr F / n, with the cluster's filter F = M (M + λ/n)⁻¹ and its weighted mean M of x xᵀ; at most 1.
        """
        sizes = torch.tensor([len(own) for own in self._members])
        found = []
        for role, each in enumerate(units):
            # A cluster of few neurons is told by their products with each other, the others by their moments.
            few = 2 * sizes <= len(each)
            energy = each.new_empty(self.count, each.shape[1])
            for chosen, of in ((few, self._energy_by_members), (~few, self._energy_by_moments)):
                if chosen.any():
                    energy[chosen] = of(role, chosen.nonzero()[:, 0], each)
            found.append(energy)
        return torch.stack(found)

    def _energy_by_moments(
        self, role: int, chosen: Int[Tensor, " one"], units: Float[Tensor, "entry neuron"]
    ) -> Float[Tensor, "one neuron"]:
        mean = self._moments(role, chosen) / rearrange(_positive(self.totals[chosen]), "one -> one 1 1")
        ridge = self.strength / len(units) * torch.eye(len(units), dtype=mean.dtype)
        # F is symmetric, because M commutes with its own shrunken inverse.
        return _energy(units, torch.linalg.solve(mean + ridge, mean))

    def _energy_by_members(
        self, role: int, chosen: Int[Tensor, " one"], units: Float[Tensor, "entry neuron"]
    ) -> Float[Tensor, "one neuron"]:
        """Return the energies without the moments: F = A (AᵀA + λ/n)⁻¹ Aᵀ for M = A Aᵀ.

        A has a column √(weight / total weight) · x for each neuron of the cluster, and columns of 0, which change
        nothing, up to the size of the largest.
        """
        members = [self._members[each] for each in chosen.tolist()]
        width, entries, ridge = max(map(len, members)), len(units), self.strength / len(units)
        if not width:
            return units.new_zeros(len(members), units.shape[1])
        places = torch.nn.utils.rnn.pad_sequence(members, batch_first=True)
        there = torch.nn.utils.rnn.pad_sequence([torch.ones_like(own) for own in members], batch_first=True)
        share = self.weight[places] * there / rearrange(_positive(self.totals[chosen]), "one -> one 1")
        found = []
        for block in blocks(len(members), max(1, AT_ONCE // (width * max(units.shape[1], entries)))):
            a = rearrange(self.units[role].T[places[block]], "one member entry -> one entry member")
            a = a * rearrange(share[block].sqrt(), "one member -> one 1 member")
            lower = torch.linalg.cholesky(a.mT @ a + ridge * torch.eye(width, dtype=a.dtype))
            along = torch.linalg.solve_triangular(lower, a.mT @ units, upper=False)
            inverse = torch.linalg.solve_triangular(lower, torch.eye(width, dtype=a.dtype), upper=False)
            trace = width - ridge * reduce(inverse.square(), "one row member -> one 1", "sum")
            found.append(along.square().sum(1) - trace / entries)
        return torch.cat(found)


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
    found = Clusters(tuple(units), own, torch.ones(len(own), dtype=torch.float64), count, strength)
    for _ in range(ROUNDS):
        energy = found.energies(units).mean(0)
        best = energy.max(0)
        weight = best.values.clamp_min(LEAST_WEIGHT).square()
        moved = int((best.indices != own).sum())
        own = best.indices
        found = Clusters(tuple(units), own, weight, count, strength)
        if moved <= SETTLED * len(own):
            break
    return found


def _positive(values: Tensor) -> Tensor:
    return values.where(values > 0, 1)
