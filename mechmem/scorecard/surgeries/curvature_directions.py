"""Surgery that is told nothing: keep the weight directions with most of the loss curvature."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

from mechmem.core.config import check_choice, check_whole
from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.models.reading.curvature_basis import Labels, check_keep, curvature_bases, without_flat_directions


@dataclasses.dataclass(frozen=True)
class CurvatureDirections(Surgery):
    """Keep the directions of a layer's weights along which the loss of many examples curves, and drop the flat ones.

    A direction that many examples use adds up to much curvature over the training set; one that a memorized example
    uses alone is flat on average. With A the second moments of a layer's inputs and G those of the gradients at its
    outputs, the curvature in its weights W is taken to be G ⊗ A (K-FAC). In the eigenbases of the two, U_Gᵀ W U_A, the
    entries with the largest products of eigenvalues are kept until they hold the share `keep` of the sum of all, and
    the others become 0. Directions of equal curvature go together. Biases, normalizations and embeddings stay as they
    are. The inputs of the training examples are used, and no label by default.

    The paper edits two of twelve or three of 32 blocks of a transformer, keeps 75 or 60 % of the curvature there, and
    leaves the classifier's head as it is. Here all layers but the head are edited by default, with more of the
    curvature kept; `mm.edit_curves` shows what each share costs. The paper draws one label per example from the
    network's own probabilities; here every class counts with its probability, which is the mean of all such draws,
    because a network that has fitted its labels would hardly ever draw another class. That takes a backward pass per
    class; `labels="drawn"` takes one.

    Attributes:
        keep: share of each layer's curvature to keep, above 0; with 1 the weights stay as they are.
        layers: names or patterns of the weights of nn.Linear and nn.Conv2d without groups, such as
            "layers.*.weight", with spaces between them; by default all but the readout's.
        labels: labels of the gradients: "model", every class with the network's own probability; "drawn", one class per
            example drawn from these; or "given", the labels that it was trained on.
        examples: number of training examples in the second moments.
        seed: seed of the draws of examples and labels.
    """

    name: ClassVar[str] = "curvature_directions"
    needs: ClassVar[frozenset[str]] = frozenset({"linear_layers"})
    cites: ClassVar[str] = "Merullo, Vatsavaya, Bushnaq & Lewis 2025, arXiv 2510.24256"
    control: ClassVar[str] = "random_directions"
    dial: ClassVar[str] = "keep"
    dial_values: ClassVar[tuple[float, ...]] = (
        *(0.9999, 0.9998, 0.9995, 0.999, 0.998, 0.997, 0.995, 0.993, 0.99, 0.985, 0.98, 0.975, 0.97, 0.96, 0.95),
        *(0.94, 0.92, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5),
    )
    shuffled: ClassVar[bool] = False
    """Whether as many directions are drawn at random instead."""

    keep: float = 0.95
    layers: str = ""
    labels: Labels = "model"
    examples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        check_keep(self.keep)
        check_choice("labels of the gradients", self.labels, get_args(Labels))
        check_whole("examples", self.examples, 1)
        check_whole("seed", self.seed, 0)

    def told(self) -> frozenset[str]:
        """The given labels, if the gradients are with them."""
        return self.knows | (frozenset({"given_labels"}) if self.labels == "given" else frozenset())

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a changed copy of its model.

        Raises:
            UnknownNameError: a name or pattern matches no such weight; the message suggests the nearest.
            MissingNeedError: the network has no such layer, or a named one takes no part in the network's pass or acts
                several times in it.
            NotFiniteError: a weight, an input of a layer or a logit is NaN or infinite.
            UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
        """
        self.require(subject)
        bases = curvature_bases(subject, self.layers, self.labels, self.examples, self.seed)
        return without_flat_directions(subject, bases, self.keep, self.seed if self.shuffled else None)
