"""Frequency filtration of neurons, on bare tensors."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.contracts import Group


def frequency_power(
    group: Group, embedding: Float[Tensor, "operand symbol neuron"], readout: Float[Tensor, "neuron class"]
) -> Float[Tensor, "freq neuron"]:
    """Share of each neuron's energy at each frequency, over its input and output vectors together.

    The constant does not count: shares of frequencies 1 … n sum to 1 per neuron (0 for a neuron without any).
    """
    vectors = torch.cat([*embedding, rearrange(readout, "neuron class -> class neuron")], 1)
    power = rearrange(group.power(vectors), "freq (vector neuron) -> freq vector neuron", vector=len(embedding) + 1)
    total = power.sum(1)
    return total / total.sum(0).clamp_min(torch.finfo(total.dtype).tiny)


def key_frequency(share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    """Return each neuron's strongest frequency, numbered from 1.

    One frequency is shared by the neuron's vectors: under heavy noise the strongest frequencies of the three vectors
    agree in hardly any neuron, and filtering each by its own leaves chance accuracy.
    """
    return share.argmax(0) + 1


def split_by_frequency(
    group: Group, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"]
) -> tuple[Float[Tensor, "symbol neuron"], Float[Tensor, "symbol neuron"]]:
    """Split vectors into their part at one frequency per neuron, and the rest.

    Symbols outside the group (0 under multiplication) have no frequency: their entries stand in both parts.
    """
    kept = group.keep(vectors, freq)
    rest = vectors - kept
    kept[group.outside] = rest[group.outside] = vectors[group.outside]
    return kept, rest
