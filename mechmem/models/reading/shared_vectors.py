"""Clusters of a network's neurons by the subspaces that their vectors share, computed once per subject."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.config import check_number, check_whole
from mechmem.core.randomness import generator
from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math import cross_role, subspaces
from mechmem.math.cross_role import CrossRole
from mechmem.math.left_out import filters_without, leave_one_out
from mechmem.math.logits import check_finite
from mechmem.math.subspaces import Clusters
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.grid import answering_neurons
from mechmem.models.reading.unembedding import neuron_logit_map
from mechmem.models.reading.weights import neuron_point

AUTO = "auto"
"""The number of clusters is chosen by cross-role energy."""

STRENGTH = 2.0
"""Default shrinkage λ."""


@dataclasses.dataclass(frozen=True, eq=False)
class RoleVectors:
    """The vectors of a layer's neurons, one per role.

    Attributes:
        point: the layer's hook point, "" if the roles name none.
        vectors: by role, one column per neuron: "u", "v" (and further letters, one input vector per operand) and "w",
            the output vector over the classes; or "rows" and "columns", the neuron's mean activation for each first and
            second operand, where it has no input vectors. Operands that share one table have one vector, "u".
    """

    point: str
    vectors: Mapping[str, Float[Tensor, "_ neuron"]]


def role_vectors(subject: Subject, point: str = "") -> RoleVectors:
    """Return the vectors of a layer's neurons: of weights where it has them, else of its activations and effects.

    The first layer of a network without a residual stream reads its operands through the input embedding, and the last
    writes the logits through the readout. Elsewhere the means over the grid stand in for input vectors, and in a
    network with a residual stream the neurons' direct effect on the logits for the output vector.

    Args:
        subject: its roles name the weights and layers.
        point: hook point of the layer, from the role `hidden`; by default the last.

    Raises:
        UnknownNameError: there is no such layer.
        MissingNeedError: the layer has fewer than two roles.
        RoleError: a role is read in a shape that does not fit.
        NotFiniteError: a value is NaN or infinite.
    """
    roles, point = subject.roles, neuron_point(subject, point)
    first = not roles.residual and (not roles.hidden or point == roles.hidden[0])
    last = not roles.residual and (not roles.hidden or point == roles.hidden[-1])
    found: dict[str, Tensor] = {}
    if first and roles.input_embedding is not None:
        tables = read_role(roles, "input_embedding", subject.model, "operands", "entries", "neurons")
        tables = full_precision(tables.cpu())
        own = [table for i, table in enumerate(tables) if not any(torch.equal(table, each) for each in tables[:i])]
        found |= dict(zip("uvabcdefghijklmnopqrst", own, strict=False))
    elif subject.task.operands is not None and point:
        found |= dict(zip(("rows", "columns"), _operand_means(subject, point), strict=True))
    if last and roles.readout is not None:
        width = next((vectors.shape[1] for vectors in found.values()), "neurons")
        # A readout with further columns may be read whole.
        classes = subject.task.n_classes if roles.output.classes is None else "classes"
        beside = "input_embedding" if "u" in found else ""
        found["w"] = _by_class(read_role(roles, "readout", subject.model, width, classes, beside=beside))
    elif roles.residual and point == neuron_point(subject):
        direct = neuron_logit_map(subject)
        found |= {} if direct is None else {"w": _by_class(direct)}
    for name, vectors in found.items():
        check_finite(vectors, f"the vectors {name!r} of the neurons")
    if len(found) < 2:
        held = ", ".join(found) or "none"
        raise MissingNeedError(f"shared subspaces need at least two vectors per neuron, and here there are: {held}")
    return RoleVectors(point, found)


def _by_class(weights: Float[Tensor, "neuron class"]) -> Float[Tensor, "class neuron"]:
    return rearrange(full_precision(weights.cpu()), "neuron classes -> classes neuron")


def _operand_means(subject: Subject, point: str) -> list[Float[Tensor, "_ neuron"]]:
    """Return the mean activation of each neuron for the symbols that each operand takes, over the cells of the task."""
    task = subject.task
    assert task.operands is not None
    held = answering_neurons(subject, activations(subject, point, ids=task.ids)[point], point)
    held = full_precision(held.cpu()).double()
    totals = torch.zeros(2, task.symbols, held.shape[1], dtype=held.dtype)
    counts = torch.zeros(2, task.symbols, 1, dtype=held.dtype)
    for side, symbols in enumerate(task.operands.T):
        totals[side].index_add_(0, symbols, held)
        counts[side].index_add_(0, symbols, torch.ones(len(symbols), 1, dtype=held.dtype))
    # A symbol that occurs nowhere has no mean; at 0 it would be a direction that all neurons share.
    taken = counts[..., 0] > 0
    return [total[some] / count[some] for total, count, some in zip(totals, counts, taken, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class SharedVectors:
    """What a layer's neurons share with others.

    Attributes:
        source: the vectors.
        live: neurons none of whose vectors is constant; the others have no direction, and no part in anything below.
        clusters: clusters of the live neurons.
        tried: the numbers of clusters that were tried, empty if it was given.
        parts: by role, the part of every neuron's vector that its cluster shares; 0 for a dead neuron. The mean over
            entries is not part of it. In the units of the vectors, float64.
        energies: per role and live neuron, the energy that the direction shares with the cluster's other neurons,
            minus what a random direction would (see `left_out.leave_one_out`).
    """

    source: RoleVectors
    live: Bool[Tensor, " neuron"]
    clusters: Clusters
    tried: tuple[CrossRole, ...]
    parts: Mapping[str, Float[Tensor, "_ neuron"]]
    energies: Float[Tensor, "role live"]
    _units: tuple[Float[Tensor, "_ live"], ...]
    _orders: tuple[Int[Tensor, " live"], ...]

    def filters(self, name: str) -> Iterator[tuple[Int[Tensor, " member"], Float[Tensor, "member entry entry"]]]:
        """Yield numbers of live neurons and the filters of their vectors of one role, without the neuron itself.

        Args:
            name: the role.
        """
        role = list(self.source.vectors).index(name)
        numbers, order = self.live.nonzero()[:, 0], self._orders[role]
        for inside, kept in filters_without(self._units[role], self.clusters, role):
            yield numbers[order[inside]], kept


def check_settings(clusters: int | str, strength: float, seed: int) -> None:
    """Refuse settings of the clusters that have no meaning.

    Raises:
        ConfigError: one has none.
    """
    if isinstance(clusters, str):
        if clusters != AUTO:
            raise ConfigError(f'clusters must be "auto" or a whole number of at least 2, got {clusters!r}')
    else:
        check_whole("clusters", clusters, 2)
    check_number("strength", strength, above=0)
    check_whole("seed", seed, 0)


def shared_vectors(
    subject: Subject,
    clusters: int | str = AUTO,
    strength: float = STRENGTH,
    seed: int = 0,
    point: str = "",
    *,
    shuffled: bool = False,
) -> SharedVectors:
    """Cluster a layer's neurons by the subspaces that their vectors share, and filter the vectors by them.

    Args:
        subject: its roles name the weights and layers.
        clusters: number of clusters, or "auto" (see `cross_role.cross_role_energies`).
        strength: shrinkage λ of the filters.
        seed: seed of k-means and of the folds.
        point: hook point of the layer, from the role `hidden`; by default the last.
        shuffled: whether the live neurons' vectors are first put together at random, each role on its own: a control.
            The clusters are then of these combinations, and the parts are returned to the neurons of the vectors.

    Raises:
        MissingNeedError: the layer has fewer than two vectors per neuron, or too few live neurons.
        UnknownNameError: there is no such layer.
        NotFiniteError: a value is NaN or infinite.
    """
    point = neuron_point(subject, point)
    key = f"shared_vectors {point} {clusters} {strength} {seed} {shuffled}"
    return subject.memo(key, lambda: _shared(role_vectors(subject, point), clusters, strength, seed, shuffled))


def _shared(source: RoleVectors, clusters: int | str, strength: float, seed: int, shuffled: bool) -> SharedVectors:
    vectors = [each.double() for each in source.vectors.values()]
    units, live = subspaces.directions(list(source.vectors.values()))
    count, longest = int(live.sum()), max(map(len, vectors))
    least = max(longest, cross_role.PER_CLUSTER * clusters if isinstance(clusters, int) else cross_role.LEAST)
    if count < least:
        dead = f" ({len(live) - count} are dead)" if count < len(live) else ""
        wanted = f"{clusters} clusters" if isinstance(clusters, int) and least > longest else f"{longest} symbols"
        raise MissingNeedError(
            f"shared subspaces of {wanted} need at least {least} neurons with vectors, and here there are {count}{dead}"
        )
    draw = generator(seed, "shuffled vectors")
    orders = [torch.randperm(count, generator=draw) if shuffled else torch.arange(count) for _ in units]
    units = [each[:, order] for each, order in zip(units, orders, strict=True)]
    tried: tuple[CrossRole, ...] = ()
    if isinstance(clusters, str):
        tried = tuple(cross_role.cross_role_energies(units, cross_role.candidates(count), strength, seed))
        clusters = cross_role.chosen_count(tried)
    top = subspaces.embedding(subspaces.affinity(units), clusters, seed)
    fitted = subspaces.cluster(units, top, strength, seed)
    parts, energies = leave_one_out(units, fitted)
    whole = {}
    for name, each, part, order in zip(source.vectors, vectors, parts, orders, strict=True):
        whole[name] = torch.zeros_like(each)
        whole[name][:, live] = part[:, order.argsort()] * (each - each.mean(0))[:, live].norm(dim=0)
    return SharedVectors(source, live, fitted, tried, whole, energies, tuple(units), tuple(orders))
