"""Filters of shared subspaces without the neuron that is filtered, by rank-one downdates.

With the neuron's own direction in its cluster's moments, small clusters would pass memories on. It is taken out by the
formula of Sherman & Morrison (1950): with M = Σ′ weight · x xᵀ / Σ′ weight over the other neurons of the cluster and
c = λ/n, the filter is F = M (M + c)⁻¹ = 1 − c (M + c)⁻¹.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.blocks import blocks
from mechmem.math.subspaces import Clusters, Vectors

AT_ONCE = 2**24
"""Numbers in the filters that are held at once."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Downdate:
    """Solutions for the neurons of one cluster in one role.

    Attributes:
        inside: the neurons.
        alone: which of them have no others in the cluster.
        axes: eigenvectors of the cluster's moments.
        shrunk: eigenvalues of (Σ′ + c)⁻¹ with the neuron still in Σ′, one column per neuron.
        solved: (Σ′ + c)⁻¹ x along the axes.
        gain: factor of the downdate, weight / Σ′ weight / (1 − weight / Σ′ weight · xᵀ (Σ′ + c)⁻¹ x).
        ridge: c.
    """

    inside: Int[Tensor, " member"]
    alone: Bool[Tensor, " member"]
    axes: Float[Tensor, "entry vector"]
    shrunk: Float[Tensor, "vector member"]
    solved: Float[Tensor, "vector member"]
    gain: Float[Tensor, " member"]
    ridge: float


def _downdates(x: Float[Tensor, "entry neuron"], clusters: Clusters, role: int) -> Iterator[_Downdate]:
    ridge = clusters.strength / len(x)
    rest = clusters.totals[clusters.cluster] - clusters.weight
    alone = rest <= 1e-12 * clusters.weight
    rest = rest.where(~alone, 1)
    for own, moment in enumerate(clusters.moments[role]):
        inside = (clusters.cluster == own).nonzero()[:, 0]
        if len(inside):
            values, axes = torch.linalg.eigh(moment)
            shrunk = 1 / (rearrange(values.clamp_min(0), "vector -> vector 1") / rest[inside] + ridge)
            along, share = axes.T @ x[:, inside], clusters.weight[inside] / rest[inside]
            solved = shrunk * along
            gain = share / (1 - share * (along * solved).sum(0))
            yield _Downdate(inside, alone[inside], axes, shrunk, solved, gain, ridge)


def leave_one_out(
    units: Vectors, clusters: Clusters
) -> tuple[list[Float[Tensor, "_ neuron"]], Float[Tensor, "role neuron"]]:
    """Filter every direction by its cluster's subspace as the other neurons of the cluster give it.

    Returns:
        per role F x, 0 for a neuron without others in its cluster; and per role and neuron xᵀ F x − tr F / n, the
        energy that it shares with others.
    """
    parts, energies = [], []
    for role, x in enumerate(units):
        part, trace = torch.zeros_like(x), torch.zeros(x.shape[1], dtype=x.dtype)
        for found in _downdates(x, clusters, role):
            # 1 / (1 − s xᵀ B x) = 1 + gain · xᵀ B x is what a downdate multiplies B x by.
            along = found.axes.T @ x[:, found.inside]
            factor = 1 + found.gain * (along * found.solved).sum(0)
            own = x[:, found.inside] - found.ridge * (found.axes @ (found.solved * factor))
            lost = found.shrunk.sum(0) + found.gain * found.solved.square().sum(0)
            part[:, found.inside] = own.where(~found.alone, 0)
            trace[found.inside] = (len(x) - found.ridge * lost).where(~found.alone, 0)
        energies.append((x * part).sum(0) - trace / len(x))
        parts.append(part)
    return parts, torch.stack(energies)


def filters_without(
    x: Float[Tensor, "entry neuron"], clusters: Clusters, role: int
) -> Iterator[tuple[Int[Tensor, " member"], Float[Tensor, "member entry entry"]]]:
    """Yield neurons and the filter of each in one role, a few at a time; 0 for a neuron without others.

    Args:
        x: the role's directions.
        clusters: the neurons' clusters.
        role: number of the role.
    """
    for found in _downdates(x, clusters, role):
        for block in blocks(len(found.inside), AT_ONCE // len(x) ** 2):
            axes, solved = found.axes, found.axes @ found.solved[:, block]
            shrunk = rearrange(found.shrunk[:, block], "vector member -> member 1 vector")
            inverse = (axes * shrunk) @ axes.T
            inverse += einsum(solved * found.gain[block], solved, "row member, entry member -> member row entry")
            kept = torch.eye(len(x), dtype=x.dtype) - found.ridge * inverse
            yield found.inside[block], kept * rearrange(~found.alone[block], "member -> member 1 1")
