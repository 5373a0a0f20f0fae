"""Frequency filtration of neurons, on bare tensors."""

from __future__ import annotations

from typing import Literal

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
    total = group.power(rearrange(readout, "neuron classes -> classes neuron"))
    for vectors in embedding:
        total = total + group.power(vectors)
    return total / total.sum(0).clamp_min(torch.finfo(total.dtype).tiny)


def key_frequency(share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    """Return each neuron's strongest frequency, numbered from 1.

    One frequency is shared by the neuron's vectors: under heavy noise the strongest frequencies of the three vectors
    agree in hardly any neuron, and filtering each by its own leaves chance accuracy.
    """
    return share.argmax(0) + 1


def frequency_part(
    group: Group, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"], part: Literal["G", "R"]
) -> Float[Tensor, "symbol neuron"]:
    """Return the vectors' part at one frequency per neuron (G), or the rest (R).

    Symbols outside the group (0 under multiplication) have no frequency: their entries stand in both parts.
    """
    kept = group.keep(vectors, freq)
    chosen = kept if part == "G" else vectors - kept
    chosen[group.outside] = vectors[group.outside]
    return chosen
