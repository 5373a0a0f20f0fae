"""Frequency filtration: one frequency per neuron, or everything else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.core.plugins import Surgery
from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.errors import unknown_name
from mechmem.math.filtration import frequency_part, frequency_power, key_frequency
from mechmem.models.reading.weights import neuron_weights


@dataclasses.dataclass(frozen=True)
class FrequencyFiltration(Surgery):
    """Keep one frequency per neuron in its input and output vectors (network G), or everything else (network R).

    The frequency is the one with the largest sum of shares in the energies of u, v and w. G drops the constant of all
    three vectors and the readout bias; R keeps them. Symbols outside the group keep their raw weights and their bias in
    both (Liu & Lu 2026, arXiv 2605.18022).

    Attributes:
        part: "G", the kept frequency, or "R", the remainder.
    """

    name: ClassVar[str] = "frequency"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"
    aliases: ClassVar[Mapping[str, Mapping[str, Any]]] = {"frequency_rest": {"part": "R"}}
    control: ClassVar[str] = "random_frequency"

    part: Literal["G", "R"] = "G"

    def __post_init__(self) -> None:
        if self.part not in ("G", "R"):
            raise unknown_name("part of a filtration", self.part, ("G", "R"))

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a filtered copy of its model."""
        self.require(subject)
        group, embedding, readout = neuron_weights(subject)
        return filtered(subject, key_frequency(group, frequency_power(group, embedding, readout)), self.part)


def filtered(subject: Subject, freq: Int[Tensor, " neuron"], part: Literal["G", "R"]) -> Subject:
    """Return the subject with a copy of its model that keeps these frequencies (G) or the rest (R).

    Args:
        subject: a subject with a group and the roles input_embedding and readout.
        freq: one frequency per neuron, numbered from 1.
        part: network "G" or "R".
    """
    group, embedding, readout = neuron_weights(subject)
    roles, model = subject.roles, subject.copy_model()
    assert roles.input_embedding is not None and roles.readout is not None
    kept = torch.stack([frequency_part(group, vectors, freq, part) for vectors in embedding])
    kept_readout = frequency_part(group, rearrange(readout, "neuron classes -> classes neuron"), freq, part)
    roles.input_embedding.write(model, kept)
    roles.readout.write(model, rearrange(kept_readout, "classes neuron -> neuron classes"))
    if roles.bias is not None and part == "G":
        bias = read_role(roles, "bias", model, subject.task.n_classes)
        only_outside = torch.zeros_like(bias)
        only_outside[group.outside] = bias[group.outside]
        roles.bias.write(model, only_outside)
    return subject.with_model(model)
