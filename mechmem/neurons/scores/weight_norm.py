"""Norm of a neuron's vectors."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch

from mechmem.core.config import check_choice
from mechmem.core.plugins import Score
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.models.reading.weights import layer_vectors

Which = Literal["all", "u", "v", "w"]


@dataclasses.dataclass(frozen=True)
class WeightNorm(Score):
    """Rank neurons by the L2 norm of their weights.

    The simplest score, and so a baseline for all others. With "all" it is the norm of the layer's vectors u, v and w,
    concatenated.

    Attributes:
        of: "all", or one of "u", "v" (input vectors of the operands) and "w" (output vector).
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "weight_norm"
    needs: ClassVar[frozenset[str]] = frozenset({"role:input_embedding", "role:readout"})
    cites: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626"
    higher: ClassVar[str] = "larger weights"

    of: Which = "all"
    point: str = ""

    def __post_init__(self) -> None:
        check_choice("vector", self.of, get_args(Which))

    def wants(self) -> frozenset[str]:
        """Only the role of the vector, if `of` names one."""
        if self.of == "all":
            return self.needs
        return frozenset({"role:readout" if self.of == "w" else "role:input_embedding"})

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing, or the layer has no such vector.
        """
        self.require(subject)
        point, found = layer_vectors(subject, self.point)
        chosen = [vectors for name, vectors in found.items() if self.of in ("all", name)]
        if not chosen:
            raise MissingNeedError(f"layer {point!r} has the vectors {', '.join(found)}, not {self.of!r}")
        return NeuronScores(self.label(), torch.cat(chosen).norm(dim=0), point, self.higher)
