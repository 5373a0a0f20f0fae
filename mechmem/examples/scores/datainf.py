"""DataInf: influence by the closed-form mean of inverses of rank-one curvatures."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.config import check_number, check_whole
from mechmem.core.randomness import generator
from mechmem.examples.example_gradients import ExampleGradients, check_held
from mechmem.examples.influence_score import Curvature, GradientInfluence, Rows


@dataclasses.dataclass(frozen=True)
class DataInf(GradientInfluence):
    """Score examples by their influence on themselves, with the order of mean and inverse exchanged.

    The curvature of each layer is the mean over training examples of ∇ℓ∇ℓᵀ + λ. Its inverse is replaced by the mean of
    the inverses, each of which is known in closed form: H⁻¹ v ≈ 1/m Σ_j (v − ∇ℓ_j ∇ℓ_jᵀv / (λ + ‖∇ℓ_j‖²)) / λ. λ is a
    share of the layer's mean squared gradient, as in the paper. A layer is what one module owns.

    The mean is over a sample of training examples, whose gradients are held; a network whose gradients do not fit into
    memory is measured on some of its parameters.

    Attributes:
        parameters: see `GradientInfluence`.
        damping: λ of a layer over the mean of the squared entries of its gradients.
        examples: number of training examples in the mean; all, if there are fewer.
        seed: seed of their draw.
    """

    name: ClassVar[str] = "datainf"
    cites: ClassVar[str] = "Kwon et al. 2024, arXiv 2310.00902, equation 5"

    damping: float = 0.1
    examples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("damping", self.damping, above=0)
        check_whole("number of examples", self.examples, 1)
        check_whole("seed", self.seed, 0)

    def curvature(self, gradients: ExampleGradients) -> Curvature:
        """Return the mean of inverses.

        Raises:
            MissingNeedError: the sample's gradients do not fit into memory.
        """
        sources = gradients.subject.task.sources
        drawn = torch.randperm(len(sources), generator=generator(self.seed, "curvature"))[: self.examples].sort().values
        remedy = f'choose parameters, such as "{list(gradients.chosen)[-1]}", or fewer examples'
        check_held(repr(self.name), len(drawn), gradients.size, remedy)
        held: Tensor | None = None
        for block, rows in gradients.blocks(sources[drawn]):
            held = rows.new_empty(len(drawn), gradients.size) if held is None else held
            held[block] = rows
        assert held is not None
        return _MeanOfInverses(held, gradients.layers(), self.damping)


class _MeanOfInverses(Curvature):
    def __init__(self, held: Float[Tensor, "sample parameter"], layers: dict[str, slice], damping: float):
        self._parts: list[tuple[slice, Tensor, Tensor, float]] = []
        for columns in layers.values():
            own = held[:, columns]
            squares = own.square().sum(1)
            shift = damping * float(squares.mean()) / own.shape[1]
            self._parts.append((columns, own, squares, shift))
        unused = sum(not shift for *_, shift in self._parts)
        self.note = f"curvature of {len(held):,} examples" + (f"; {unused} layers without gradient" if unused else "")

    def solve(self, rows: Rows) -> Rows:
        found = torch.zeros_like(rows)
        for columns, own, squares, shift in self._parts:
            if shift:  # NaN goes on to the values, which are refused
                along = rows[:, columns] @ own.T / (shift + squares)
                found[:, columns] = (rows[:, columns] - along @ own / len(own)) / shift
        return found

    def squares(self, rows: Rows) -> Float[Tensor, " example"]:
        found = rows.new_zeros(len(rows))
        for columns, own, squares, shift in self._parts:
            if shift:
                part = rows[:, columns]
                along = (part @ own.T).square() / (shift + squares)
                found += (part.square().sum(1) - along.mean(1)) / shift
        return found
