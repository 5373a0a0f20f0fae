"""Frequency filtration of neurons, on bare tensors."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.group_contract import Group


def frequency_power(
    group: Group, embedding: Float[Tensor, "operand symbol neuron"], readout: Float[Tensor, "neuron class"]
) -> Float[Tensor, "freq neuron"]:
    """Mean, over a neuron's input and output vectors, of the share of the vector's energy at each frequency.

    Each vector counts alike, whatever its length. The constant does not count: a vector's shares of frequencies
    1 … n sum to 1, or are 0 where there is nothing but a constant (up to rounding).
    """
    vectors = (*embedding, rearrange(readout, "neuron classes -> classes neuron"))
    total = _share(group, vectors[0])
    for each in vectors[1:]:
        total += _share(group, each)
    return total / len(vectors)


def _share(group: Group, vectors: Float[Tensor, "symbol neuron"]) -> Float[Tensor, "freq neuron"]:
    power = group.power(vectors)
    precision = torch.finfo(power.dtype)
    # Below this a vector is a constant, and what is left of it rounding noise.
    negligible = (vectors.square().sum(0) * precision.eps**2 * len(vectors)).clamp_min(precision.tiny)
    total = power.sum(0)
    return power / torch.where(total > negligible, total, torch.inf)


def key_frequency(group: Group, share: Float[Tensor, freq * neuron]) -> Int[Tensor, "*neuron"]:
    """Return each neuron's strongest frequency, numbered from 1.

    One frequency is shared by the neuron's vectors: under heavy noise the strongest frequencies of the three vectors
    agree in hardly any neuron, and filtering each by its own leaves chance accuracy.

    Strongest is the one with the most energy per coefficient, which is the peak of a one-sided Fourier transform. An
    irreducible representation of dimension d has d² coefficients (in S5: 1 to 36), so that by their sum the largest
    would win in a network that has learned nothing.

    Args:
        group: the group of the symbols.
        share: energies, or shares of them (see `frequency_power`).
    """
    counts = group.multiplicity[1:]
    if (counts == counts[0]).all():
        return share.argmax(0) + 1
    return (share.movedim(0, -1) / counts.to(share)).argmax(-1) + 1


def key_or_none(group: Group, share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    """Return the same, with 0 for a neuron without energy at any frequency."""
    return key_frequency(group, share).where(share.sum(0) > 0, 0)


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
