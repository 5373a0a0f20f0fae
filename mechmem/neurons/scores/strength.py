"""Largest effect that a neuron can have on a logit."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import nn

from mechmem.core.plugins import Score
from mechmem.core.scores import NeuronScores
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.reading.weights import layer_vectors


@dataclasses.dataclass(frozen=True)
class Strength(Score):
    """Rank neurons by the largest change that they could make to a logit.

    ‖w‖_∞ · φ(‖u‖_∞ + ‖v‖_∞), with φ the network's own activation. It uses nothing of the task, so it applies if the
    Fourier structure is unknown (the paper finds it better than the IPR for multiplication).

    Attributes:
        point: the layer of neurons; it must be the network's only one, with input and output vectors.
    """

    name: ClassVar[str] = "strength"
    needs: ClassVar[frozenset[str]] = frozenset({"role:input_embedding", "role:readout", "role:activation"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"
    higher: ClassVar[str] = "more generalizing"

    point: str = ""

    def __call__(self, subject: Subject) -> NeuronScores:
        """Return the scores.

        Raises:
            MissingNeedError: a need is missing, or the layer has no input or no output vector.
            RoleError: the role activation names no submodule, or several for one layer.
        """
        self.require(subject)
        point, found = layer_vectors(subject, self.point)
        inputs = [vectors for name, vectors in found.items() if name != "w"]
        if not inputs or "w" not in found:
            raise MissingNeedError(
                f"strength needs a layer with input and output vectors; layer {point!r} has {', '.join(found)}"
            )
        activation = _activation(subject)
        # The module's parameters may be on another device than the vectors.
        like = next(activation.parameters(), inputs[0])
        with torch.no_grad():
            largest = torch.stack([vectors.abs().amax(0) for vectors in inputs]).sum(0)
            driven = activation(largest.to(like)).to(largest)
        note = "" if driven.any() else "φ(‖u‖_∞ + ‖v‖_∞) is 0 for every neuron, so the score is the same for all"
        return NeuronScores(self.label(), found["w"].abs().amax(0) * driven, point, self.higher, note)


def _activation(subject: Subject) -> nn.Module:
    """Return the activation of the network's only layer."""
    names = subject.roles.activation
    assert names is not None
    if not isinstance(names, str):
        if len(names) != 1:
            raise RoleError(f"the network has one layer of neurons and the activations {', '.join(names)}")
        names = names[0]
    try:
        return subject.model.get_submodule(names)
    except AttributeError as error:
        raise RoleError(f"the role activation names no submodule: {error}") from error
