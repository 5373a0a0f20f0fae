"""Inverse participation ratio of a neuron's vectors."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

import torch

from mechmem.core.config import check_choice
from mechmem.core.plugins import Score
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.fourier import IPRConvention, inverse_participation
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.weights import neuron_vectors

Which = Literal["all", "u", "v", "w"]


@dataclasses.dataclass(frozen=True)
class InverseParticipationRatio(Score):
    """Rank neurons by how concentrated their vectors are in frequency.

    The inverse participation ratio of a vector is (‖x̂‖₄ / ‖x̂‖₂)⁴ over its Fourier coefficients, including the
    constant's. A neuron's is the mean over its vectors u, v and w (Doshi et al. 2024), or that of w alone (Liu & Lu
    2026). "one_sided" takes the coefficients of the real FFT, so that a pure cosine has 1 (the figures of Doshi et
    al.'s code); "two_sided" those of the full DFT, where it has ½ (the formula of their paper).

    Attributes:
        convention: "one_sided" or "two_sided".
        of: "all" for the mean over the layer's vectors, or one of "u", "v", "w".
        point: the layer of neurons; by default the last.
    """

    name: ClassVar[str] = "ipr"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group"})
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"
    higher: ClassVar[str] = "more generalizing"

    convention: IPRConvention = "one_sided"
    of: Which = "all"
    point: str = ""

    def __post_init__(self) -> None:
        check_choice("convention of the IPR", self.convention, get_args(IPRConvention))
        check_choice("vector", self.of, get_args(Which))

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing, or the layer has no such vector.
        """
        self.require(subject)
        found = neuron_vectors(subject, self.point)
        chosen = [x for name, x in zip(found.names, found.vectors, strict=True) if self.of in ("all", name)]
        if not chosen:
            raise MissingNeedError(f"layer {found.point!r} has the vectors {', '.join(found.names)}, not {self.of!r}")
        spectra = [found.group.spectrum(full_precision(x.cpu())) for x in chosen]
        ipr = [inverse_participation(s, found.group.multiplicity, self.convention) for s in spectra]
        return NeuronScores(self.label(), torch.stack(ipr).mean(0), found.point, self.higher)
