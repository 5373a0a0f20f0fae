"""Clusters of neurons that share subspaces, and how much more they share than random labels bring about."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.analyses.shared_neurons import DRAWN_NEURONS, NETWORKS, TRAINED, SharedStructureResult
from mechmem.core.plugins import Analysis
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, NotFiniteError
from mechmem.math import subspaces
from mechmem.math.cross_role import CrossRole, cross_role_energies
from mechmem.models.reading.shared_vectors import AUTO, STRENGTH, SharedVectors, check_settings, shared_vectors
from mechmem.models.reading.twins import twin_subject
from mechmem.scorecard.controls import NETWORK_CONTROLS
from mechmem.scorecard.rows import CONTROL_TITLES


@dataclasses.dataclass(frozen=True)
class SharedStructure(Analysis):
    """Cluster neurons by the subspaces that their vectors share, and measure how much they share, beside twins.

    A neuron that generalizes reads and writes the same few directions as others of its kind, and what it memorizes is
    its own (see `math.subspaces`). Whether there is such structure is measured on neurons that took no part in the
    clusters: the energy of one of a neuron's vectors in the cluster that its others choose, less the same of another
    neuron's vector. Neurons that memorize the same cell share directions too, so this excess is above 0 without any
    rule: the noise-only twin tells what it means, the permuted null does not. Untrained and one-step twins are measured
    too, because an architecture can share directions before any training; each has as many clusters as the network. The
    result's note says why a twin is missing.

    Nothing of the group, the operation, labels or test inputs is used.

    Attributes:
        clusters: number of clusters, or "auto": the number with the largest excess.
        strength: shrinkage λ of the filters.
        seed: seed of k-means, and of the folds of neurons.
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "shared_structure"
    needs: ClassVar[frozenset[str]] = frozenset({"role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs"})
    cites: ClassVar[str] = "mechmem, after the question of Liu & Lu 2026, arXiv 2605.18022"

    clusters: int | Literal["auto"] = AUTO
    strength: float = STRENGTH
    seed: int = 0
    point: str = ""

    def __post_init__(self) -> None:
        check_settings(self.clusters, self.strength, self.seed)

    def __call__(self, subject: Subject) -> SharedStructureResult:
        """Return the clusters. The retrainer may train the one-step and the noise-only twin.

        Raises:
            MissingNeedError: a need is missing, the neurons have one vector each, or too few are live.
            UnknownNameError: there is no such layer.
            NotFiniteError: a weight is NaN or infinite.
        """
        return self.for_run(subject)(subject)

    def for_run(self, subject: Subject) -> Callable[[Subject], SharedStructureResult]:
        """Return a function that measures a checkpoint beside twins that are made once.

        Raises:
            MissingNeedError: a need is missing.
        """
        self.require(subject)
        # Made after the network is measured, because training a twin takes longer than refusing a network.
        twins = functools.cache(lambda: {kind: twin_subject(subject, kind) for kind in NETWORK_CONTROLS})

        def measure(then: Subject) -> SharedStructureResult:
            found, reasons = {TRAINED: self._measured(then, self.clusters)}, []
            for kind, (twin, reason) in twins().items():
                if twin is None:
                    reasons.append(reason)
                    continue
                try:
                    found[kind] = self._beside(found[TRAINED].shared, twin)
                except (MissingNeedError, NotFiniteError) as error:
                    reasons.append(f"the {CONTROL_TITLES[kind]} twin is not measured: {error}")
            return _result(found, self.strength, "; ".join(reasons))

        return measure

    def _measured(self, subject: Subject, clusters: int | str) -> _Measured:
        shared = shared_vectors(subject, clusters, self.strength, self.seed, self.point)
        units = subspaces.directions(list(shared.source.vectors.values()))[0]
        tried = shared.tried
        if not tried:
            tried = tuple(cross_role_energies(units, [shared.clusters.count], self.strength, self.seed))
        return _Measured(shared, tried, _affinity(units, shared))

    def _beside(self, own: SharedVectors, twin: Subject) -> _Measured:
        found = self._measured(twin, own.clusters.count)
        here, there = len(own.live), len(found.shared.live)
        if here != there:
            raise MissingNeedError(f"it has {there} neurons, and the network {here}")
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class _Measured:
    shared: SharedVectors
    tried: tuple[CrossRole, ...]
    affinity: Float[Tensor, "drawn drawn"]


def _by_size(shared: SharedVectors) -> Int[Tensor, " cluster"]:
    """Return the clusters by falling size."""
    sizes = torch.bincount(shared.clusters.cluster, minlength=shared.clusters.count)
    return torch.argsort(sizes, descending=True, stable=True)


def _affinity(units: subspaces.Vectors, shared: SharedVectors) -> Float[Tensor, "drawn drawn"]:
    own, energy = _by_size(shared).argsort()[shared.clusters.cluster].numpy(), shared.energies.mean(0).numpy()
    order = np.lexsort((-energy, own))
    place = np.linspace(0, len(order) - 1, min(len(order), DRAWN_NEURONS)).round().astype(int)
    drawn = torch.from_numpy(order[place])
    return subspaces.affinity([each[:, drawn] for each in units]).float()


def _result(found: Mapping[str, _Measured], strength: float, note: str) -> SharedStructureResult:
    own = found[TRAINED]
    shared, order = own.shared, _by_size(own.shared)
    live, width = shared.live, len(shared.live)
    counts = tuple(each.count for each in own.tried)
    energy = torch.full((len(NETWORKS), width), torch.nan, dtype=torch.float64)
    observed, permuted = torch.full((2, len(NETWORKS), len(counts), len(own.tried[0].observed)), torch.nan).double()
    for name, measured in found.items():
        network = NETWORKS.index(name)
        energy[network, measured.shared.live] = measured.shared.energies.mean(0)
        for each in measured.tried:
            observed[network, counts.index(each.count)] = each.observed
            permuted[network, counts.index(each.count)] = each.permuted
    cluster, weight = torch.full((width,), -1), torch.zeros(width, dtype=torch.float64)
    cluster[live], weight[live] = order.argsort()[shared.clusters.cluster], shared.clusters.weight
    spectra = dict(zip(shared.source.vectors, (each[order] for each in shared.clusters.spectra()), strict=True))
    # The stricter the twin, the later it stands.
    shown = [TRAINED, *[name for name in found if name != TRAINED][-1:]]
    affinity = {name: found[name].affinity for name in shown}
    return SharedStructureResult(
        shared.source.point, cluster, weight, energy, spectra, counts, observed, permuted, affinity, strength, note
    )
