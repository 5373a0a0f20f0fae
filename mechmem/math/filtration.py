"""Frequency filtration of neurons, on bare tensors."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.group import Group
from mechmem.math.fourier import real_basis, waves_at


def frequency_power(
    group: Group, embedding: Float[Tensor, "operand symbol neuron"], readout: Float[Tensor, "neuron class"]
) -> Float[Tensor, "freq neuron"]:
    """Mean, over a neuron's input and output vectors, of the share of the vector's energy at each frequency.

    Every vector has the same weight, whatever its length. The constant is excluded: a vector's shares at frequencies
    1 … n sum to 1, or are 0 if it is constant up to rounding.
    """
    vectors = (*embedding, rearrange(readout, "neuron classes -> classes neuron"))
    total = _share(group, vectors[0])
    for each in vectors[1:]:
        total += _share(group, each)
    return total / len(vectors)


def key_frequency(group: Group, share: Float[Tensor, freq * neuron]) -> Int[Tensor, "*neuron"]:
    """Return each neuron's strongest frequency, numbered from 1.

    The neuron's vectors share one frequency: under heavy noise the strongest frequencies of the three vectors agree in
    hardly any neuron, and filtering each vector by its own leaves chance accuracy.

    The strongest frequency has the most energy per coefficient; it is the peak of a one-sided Fourier transform. An
    irreducible representation of dimension d has d² coefficients (in S5: 1 to 36), so that by total energy the largest
    would win even in an untrained network.

    Args:
        group: the group of the symbols.
        share: energies, or shares of them (see `frequency_power`).
    """
    counts = group.multiplicity[1:]
    if (counts == counts[0]).all():
        return share.argmax(0) + 1
    return (share.movedim(0, -1) / counts.to(share)).argmax(-1) + 1


def key_or_none(group: Group, share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    """Return `key_frequency`, or 0 for a neuron without energy at any frequency."""
    return key_frequency(group, share).where(share.sum(0) > 0, 0)


def frequency_part(
    group: Group, vectors: Float[Tensor, "symbol neuron"], freq: Int[Tensor, " neuron"], part: Literal["G", "R"]
) -> Float[Tensor, "symbol neuron"]:
    """Return the vectors' part at one frequency per neuron (G), or the rest (R).

    Symbols outside the group (0 under multiplication) have no frequency: both parts keep their entries.
    """
    kept = group.keep(vectors, freq)
    chosen = kept if part == "G" else vectors - kept
    chosen[group.outside] = vectors[group.outside]
    return chosen


def strongest_frequencies(group: Group, vectors: Float[Tensor, "symbol neuron"], count: int) -> Int[Tensor, " freq"]:
    """Return the frequencies with the most energy per coefficient, over all vectors, in ascending order.

    Long vectors count more than short ones, as they do in the logits. Ties go to the lower frequency. Energy is taken
    per coefficient because a large representation has the most energy even in random vectors.

    Args:
        group: the group of the symbols; symbols outside it are ignored.
        vectors: one column per neuron.
        count: number of frequencies; all if there are fewer.

    Returns:
        frequencies, numbered from 1.
    """
    energy = group.power(vectors.double()).sum(1) / group.multiplicity[1:].to(vectors.device)
    return torch.argsort(energy, descending=True, stable=True)[:count].sort().values + 1


class GridFrequencies:
    """Running sums over the rows of the grid for energies, explained variance and filtered neurons.

    Rows may be added in any order and number of blocks; each of the n rows must be added once.

    Args:
        n: order of the group.
        neurons: number of functions.
    """

    def __init__(self, n: int, neurons: int):
        self.n = n
        # In the orthonormal basis (1, cos, sin) over a times (1, cos, sin) over b; every frequency includes the
        # constant.
        self._coefficients = torch.zeros(n // 2, 3, 3, neurons, dtype=torch.float64)
        self._sum, self._squares = torch.zeros(2, neurons, dtype=torch.float64)

    def add(self, values: Float[Tensor, "row n neuron"], first: int) -> None:
        """Add some rows.

        Args:
            values: each function at positions a = first, first + 1, … of the group and all positions b.
            first: position of the first row.
        """
        wide, half, basis = values.double(), self.n // 2, real_basis(self.n)
        self._sum += wide.sum((0, 1))
        self._squares += wide.square().sum((0, 1))
        over_b = einsum(basis, wide, "wave b, row b neuron -> row wave neuron")
        waves = rearrange(over_b[:, 1:], "row (freq wave) neuron -> row freq wave neuron", wave=2)
        constant = repeat(over_b[:, :1], "row wave neuron -> row freq wave neuron", freq=half)
        here = basis[:, first : first + len(values)]
        own = rearrange(here[1:], "(freq wave) row -> freq wave row", wave=2)
        own = torch.cat([repeat(here[:1], "wave row -> freq wave row", freq=half), own], 1)
        right = torch.cat([constant, waves], 2)
        self._coefficients += einsum(own, right, "freq i row, row freq j neuron -> freq i j neuron")

    def energy(self) -> Float[Tensor, "freq neuron"]:
        """Return each neuron's energy at each frequency, summed over the grid without the constant."""
        return rearrange(self._coefficients.square(), "freq i j neuron -> freq (i j) neuron")[:, 1:].sum(1)

    def variance(self) -> Float[Tensor, " neuron"]:
        """Return each neuron's variance over the grid; 0 if it is constant up to rounding."""
        mean, square = self._sum / self.n**2, self._squares / self.n**2
        variance = square - mean.square()
        return variance.where(variance > 1e-12 * square, 0)

    def explained(self) -> Float[Tensor, "freq neuron"]:
        """Return the share of each neuron's variance at each frequency; 0 for a constant neuron.

        The shares of all frequencies sum to at most 1.
        """
        total = self.variance() * self.n**2
        return self.energy() / total.where(total > 0, torch.inf)

    def at(self, freq: Int[Tensor, " neuron"]) -> KeyWaves:
        """Return one frequency of each neuron.

        Args:
            freq: a frequency per neuron, 1 … n // 2.
        """
        own = self._coefficients[freq - 1, :, :, torch.arange(len(freq))]
        constant = torch.full((self.n, len(freq)), self.n**-0.5, dtype=own.dtype)
        waves = torch.stack([constant, *waves_at(self.n, freq, own)])
        left = einsum(waves, own, "i a neuron, neuron i j -> j a neuron")
        return KeyWaves(left, waves, own[:, 0, 0] / self.n)


@dataclasses.dataclass(frozen=True, eq=False)
class KeyWaves:
    """Factors of one frequency of each neuron, from which its value at any cell follows.

    Attributes:
        left: factors over a, one per term over b. Shape (3, n, neuron).
        right: the terms 1, cos kb and sin kb, orthonormal. Shape (3, n, neuron).
        constant: each neuron's mean over the grid. Shape (neuron).
    """

    left: Float[Tensor, "3 n neuron"]
    right: Float[Tensor, "3 n neuron"]
    constant: Float[Tensor, " neuron"]

    def at(self, cells: Int[Tensor, "cell 2"]) -> Float[Tensor, "cell neuron"]:
        """Return the constant plus key frequency of every neuron at positions (a, b) of the group."""
        a, b = cells.unbind(1)
        total = self.left[0][a] * self.right[0][b]
        for left, right in zip(self.left[1:], self.right[1:], strict=True):
            total.addcmul_(left[a], right[b])
        return total


def _share(group: Group, vectors: Float[Tensor, "symbol neuron"]) -> Float[Tensor, "freq neuron"]:
    power = group.power(vectors)
    precision = torch.finfo(power.dtype)
    # Below this a vector is constant, and the rest is rounding noise.
    negligible = (vectors.square().sum(0) * precision.eps**2 * len(vectors)).clamp_min(precision.tiny)
    total = power.sum(0)
    return power / torch.where(total > negligible, total, torch.inf)
