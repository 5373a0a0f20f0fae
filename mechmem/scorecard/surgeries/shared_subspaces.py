"""Surgery that is told nothing: of every neuron, keep what it shares with others of its kind."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import torch
from einops import rearrange

from mechmem.core.plugins import Surgery
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.models.reading.shared_vectors import AUTO, STRENGTH, check_settings, shared_vectors
from mechmem.models.reading.weights import check_no_stream


@dataclasses.dataclass(frozen=True)
class SharedSubspaces(Surgery):
    """Keep of each neuron's input and output vectors the part that other neurons of its cluster share.

    A neuron that generalizes writes the same few directions as others of its kind; what it memorizes is its own.
    Neurons are clustered by the subspaces that their vectors share, and each vector x becomes F x, where F is its
    cluster's filter without the neuron itself (see `math.subspaces`). Means over symbols or classes are dropped, and so
    is the readout bias. Neurons that memorize the same cell together share directions too, and keep them.

    Neither group nor operation, labels nor test inputs are used: any renaming of the symbols of an operand or of the
    classes gives the same accuracy.

    Attributes:
        clusters: number of clusters, or "auto": the number for which two vectors of a neuron that took no part in the
            clusters say most of the third.
        strength: shrinkage λ of the filters M (M + λ/n)⁻¹, with n entries per vector; larger keeps less.
        seed: seed of k-means, and of the folds of "auto".
    """

    name: ClassVar[str] = "shared_subspaces"
    needs: ClassVar[frozenset[str]] = frozenset({"role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs"})
    cites: ClassVar[str] = "mechmem, after the question of Liu & Lu 2026, arXiv 2605.18022"
    control: ClassVar[str] = "shuffled_subspaces"
    dial: ClassVar[str] = "strength"
    dial_values: ClassVar[tuple[float, ...]] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
    shuffled: ClassVar[bool] = False
    """Whether the vectors of different neurons are put together before they are clustered."""

    clusters: int | Literal["auto"] = AUTO
    strength: float = STRENGTH
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(self.clusters, self.strength, self.seed)

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a filtered copy of its model.

        Raises:
            MissingNeedError: a need is missing, the network has several layers or a residual stream, its neurons have
                one vector each, or fewer are live than a vector has entries.
            NotFiniteError: a weight is NaN or infinite.
        """
        self.require(subject)
        roles, model = subject.roles, subject.copy_model()
        check_no_stream(roles)
        if len(roles.hidden) > 1:
            layers = ", ".join(roles.hidden)
            raise MissingNeedError(
                f"shared subspaces need one layer of neurons with weights on both sides, not {layers}"
            )
        parts = shared_vectors(subject, self.clusters, self.strength, self.seed, shuffled=self.shuffled).parts
        assert roles.input_embedding is not None and roles.readout is not None
        tables, readout = roles.input_embedding.read(model), roles.readout.read(model)
        inputs = [part for name, part in parts.items() if name != "w"]
        # Operands that share one table have one part, which is written to all.
        kept = torch.stack(inputs if len(inputs) == len(tables) else [inputs[0]] * len(tables))
        roles.input_embedding.write(model, kept.to(tables))
        roles.readout.write(model, rearrange(parts["w"], "classes neuron -> neuron classes").to(readout))
        if roles.bias is not None:
            roles.bias.write(model, torch.zeros_like(roles.bias.read(model)))
        return subject.with_model(model)
