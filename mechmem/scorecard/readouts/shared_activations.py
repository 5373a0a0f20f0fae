"""Logits after each neuron's activations on the grid keep only what other neurons of its kind share."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import Readout
from mechmem.core.subject import Subject
from mechmem.core.task import Predictor
from mechmem.errors import MissingNeedError
from mechmem.math.additive import additive_residual
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.grid import answering_neurons
from mechmem.models.reading.replaced_neurons import logits_after
from mechmem.models.reading.shared_vectors import AUTO, STRENGTH, SharedVectors, check_settings, shared_vectors
from mechmem.models.reading.weights import neuron_point


@dataclasses.dataclass(frozen=True)
class SharedActivations(Readout):
    """Keep of each neuron's activation n(a, b) what its cluster shares, and run the rest of the network on it.

    The neurons of any layer are clustered by the vectors that they have: weights over symbols or classes, or else their
    mean activation for each symbol of either operand, and their direct effect on the logits. Over either operand, the
    activation's deviation from its mean is then replaced by the part in the cluster's subspace, without the neuron
    itself (see `math.left_out`). This reaches the neurons of transformers and of deeper networks, whose weights
    `shared_subspaces` cannot filter. The effects of a alone and of b alone on the logits are removed as by
    `additive_free`, which `residual=False` leaves out. Other positions and paths around the neurons are unchanged.

    Attributes:
        clusters: number of clusters, or "auto".
        strength: shrinkage λ of the filters.
        seed: seed of the clusters.
        point: hook point of the layer, from the role `hidden`; by default the last.
        shuffled: whether the neurons' vectors are put together at random before they are clustered: the control.
        residual: whether to remove the additive effects of the predicted cells.
    """

    name: ClassVar[str] = "shared_activations"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "test_inputs"})
    cites: ClassVar[str] = "mechmem, after the question of Liu & Lu 2026, arXiv 2605.18022"
    reads: ClassVar[Literal["logits", "network"]] = "network"

    clusters: int | Literal["auto"] = AUTO
    strength: float = STRENGTH
    seed: int = 0
    point: str = ""
    shuffled: bool = False
    residual: bool = True

    def __post_init__(self) -> None:
        check_settings(self.clusters, self.strength, self.seed)

    def stand_in(self) -> Readout | None:
        """The control: the same with the neurons' vectors put together at random."""
        return None if self.shuffled else dataclasses.replace(self, shuffled=True)

    def __call__(self, subject: Subject) -> Predictor:
        """Return the predictor.

        Raises:
            MissingNeedError: a need is missing, the neurons have one vector each, too few are live, or the task lacks a
                pair.
            UnknownNameError: there is no such layer.
            ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
            NotFiniteError: a value is NaN or infinite.
        """
        self.require(subject)
        point, task = neuron_point(subject, self.point), subject.task
        assert task.operands is not None
        operands, symbols = task.operands, task.symbols
        if len(operands.unique(dim=0)) < symbols**2:
            raise MissingNeedError(f"{self.name!r} needs every pair of {symbols} symbols among the task's inputs")
        found = shared_vectors(subject, self.clusters, self.strength, self.seed, point, shuffled=self.shuffled)
        key = f"{self.name} {point} {self.clusters} {self.strength} {self.seed} {self.shuffled}"

        def predict(ids: Int[Tensor, " example"]) -> Float[Tensor, "example class"]:
            grid = subject.memo(key, lambda: _filtered(subject, point, found))
            pairs = operands[task.rows(ids)]
            logits = logits_after(subject, point, ids, lambda block, own: grid[tuple(pairs[block].T)])
            return additive_residual(logits, pairs, symbols) if self.residual else logits

        return predict


def _filtered(subject: Subject, point: str, found: SharedVectors) -> Float[Tensor, "symbol symbol neuron"]:
    """Return the filtered activations on the whole grid; a dead neuron keeps its mean."""
    task = subject.task
    assert task.operands is not None
    held = answering_neurons(subject, activations(subject, point, ids=task.ids)[point], point)
    held = full_precision(held.cpu()).double()
    n, neurons = task.symbols, held.shape[1]
    grid = torch.empty(n, n, neurons, dtype=held.dtype)
    grid[tuple(task.operands.T)] = held
    own = rearrange(grid, "a b neuron -> neuron a b")
    names = [name for name in found.source.vectors if name != "w"]
    level = own.mean((1, 2), keepdim=True)
    kept = (own - level) * rearrange(found.live, "neuron -> neuron 1 1")
    for side in (0, 1):
        # Operands that share one table have one vector.
        for members, filters in found.filters(names[min(side, len(names) - 1)]):
            kept[members] = _kept(kept[members] if side == 0 else kept[members].mT, filters, side)
    return rearrange((kept + level).to(torch.float32), "neuron a b -> a b neuron")


def _kept(
    values: Float[Tensor, "member n m"], filters: Float[Tensor, "member n n"], side: int
) -> Float[Tensor, "member a b"]:
    """Filter the deviation from the mean along the first axis of the values, and give the operands their axes back."""
    mean = values.mean(1, keepdim=True)
    moved = filters @ (values - mean)
    new = moved - moved.mean(1, keepdim=True) + mean
    return new if side == 0 else new.mT
