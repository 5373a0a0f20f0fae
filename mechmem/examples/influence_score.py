"""Base classes of example scores that also measure the influence of training examples on chosen targets."""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.plugins import ExampleScore, plugins
from mechmem.core.subject import Subject
from mechmem.errors import NotFiniteError
from mechmem.examples.example_gradients import AT_ONCE, ExampleGradients
from mechmem.math.blocks import blocks

Rows = Float[Tensor, "example parameter"]


@dataclasses.dataclass(frozen=True)
class InfluenceScore(ExampleScore):
    """Base of scores that are an example's influence on itself, and can be read for any target: see `mm.influence`.

    Attributes:
        effect: unit of the influence on a target.
    """

    effect: ClassVar[str] = "nats"

    @abc.abstractmethod
    def on_targets(
        self, subject: Subject, sources: Int[Tensor, " source"], targets: Int[Tensor, " target"]
    ) -> tuple[Float[Tensor, "target source"], str]:
        """Return the influence of each source on each target, positive if the source helps, and a note."""


class Curvature(abc.ABC):
    """An inverse curvature of the loss, H⁻¹, that is applied to gradients."""

    note: str = ""

    @abc.abstractmethod
    def solve(self, rows: Rows) -> Rows:
        """Return H⁻¹ g of each gradient g."""

    def squares(self, rows: Rows) -> Float[Tensor, " example"]:
        """Return gᵀ H⁻¹ g of each gradient g."""
        return (rows * self.solve(rows)).sum(1)


@dataclasses.dataclass(frozen=True)
class GradientInfluence(InfluenceScore):
    """Base of scores by influence functions: products of gradients, ∇ℓ(target)ᵀ H⁻¹ ∇ℓ(source) / n.

    Gradients are taken in blocks, so that those of the whole training set are never held; each block of targets costs
    one pass over the sources.

    Attributes:
        parameters: names or patterns of the parameters, such as "readout.*", with spaces between them; by default all
            that were trained.
    """

    knows: ClassVar[frozenset[str]] = frozenset({"given_labels"})
    higher: ClassVar[str] = "training on it lowered its own loss more"
    unit: ClassVar[str] = "nats"

    parameters: str = ""

    def gradients(self, subject: Subject) -> tuple[ExampleGradients, str]:
        """Return the gradients of the chosen parameters, and a note on those left out."""
        return ExampleGradients(subject, self.parameters), ""

    @abc.abstractmethod
    def curvature(self, gradients: ExampleGradients) -> Curvature:
        """Return the inverse curvature of the training loss at the network."""

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the self-influences.

        Raises:
            MissingNeedError: the network has no trained parameters, or the method cannot treat one of its layers.
            UnknownNameError: a pattern matches no parameter.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
            NotFiniteError: a squared gradient is too large for a number.
        """
        (gradients, note), sources = self.gradients(subject), subject.task.sources
        curvature = self.curvature(gradients)
        values = torch.empty(len(sources), dtype=torch.float64)
        for block, rows in gradients.blocks(sources):
            values[block] = curvature.squares(rows).double().cpu() / len(sources)
        if values.isinf().any():
            example = int(sources[values.isinf()][0])
            raise NotFiniteError(f"{self.label()!r} is infinite, as for example {example}: its gradients are too large")
        return values, "; ".join(filter(None, [curvature.note, note]))

    def on_targets(
        self, subject: Subject, sources: Int[Tensor, " source"], targets: Int[Tensor, " target"]
    ) -> tuple[Float[Tensor, "target source"], str]:
        """Return the influences.

        Raises:
            MissingNeedError: see `measure`.
        """
        self.require(subject)
        gradients, note = self.gradients(subject)
        curvature = self.curvature(gradients)
        values = torch.empty(len(targets), len(sources))
        for part in blocks(len(targets), 8 * AT_ONCE // gradients.size):
            solved = torch.cat([curvature.solve(rows) for _, rows in gradients.blocks(targets[part])])
            for block, rows in gradients.blocks(sources):
                values[part, block] = (solved @ rows.T).float().cpu() / len(subject.task.sources)
        return values, "; ".join(filter(None, [curvature.note, note]))


def places_in(every: Int[Tensor, " example"], ids: Int[Tensor, " chosen"]) -> Int[Tensor, " chosen"]:
    """Return the places of some ids among all; each must be there."""
    order = torch.argsort(every)
    return order[torch.searchsorted(every[order], ids)]


def influence_scores() -> dict[str, type[InfluenceScore]]:
    """Return the scores that can be read for any target, by name."""
    return {name: cls for name, cls in plugins("example_scores").items() if issubclass(cls, InfluenceScore)}
