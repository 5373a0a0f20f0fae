"""Neurons as functions n(a, b) on the grid of pairs: what each frequency carries of them, and one of them alone.

Frequency k of a function on the grid is what {1, cos ka, sin ka} × {1, cos kb, sin kb} span, without the constant: the
modes (k, 0), (0, k), (k, k) and (k, −k) of its 2-D Fourier transform, eight directions. The Nyquist frequency of an
even n has no sine, and three. Modes of two frequencies, (k, l), belong to none.
"""

from __future__ import annotations

import dataclasses

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.math.fourier import real_basis, waves_at


class GridFrequencies:
    """Running sums over the rows of the grid, from which energies, explained variance and filtered neurons follow.

    Rows may come in any order, in any number of blocks; each of the n has to come once.

    Args:
        n: order of the group.
        neurons: number of functions.
    """

    def __init__(self, n: int, neurons: int):
        self.n = n
        # In the orthonormal basis (1, cos, sin) over a times (1, cos, sin) over b; every frequency has the constant.
        self._coefficients = torch.zeros(n // 2, 3, 3, neurons, dtype=torch.float64)
        self._sum, self._squares = torch.zeros(2, neurons, dtype=torch.float64)

    def add(self, values: Float[Tensor, "row n neuron"], first: int) -> None:
        """Take in some rows.

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
        """Return each neuron's energy at each frequency, summed over the grid; the constant does not count."""
        return rearrange(self._coefficients.square(), "freq i j neuron -> freq (i j) neuron")[:, 1:].sum(1)

    def variance(self) -> Float[Tensor, " neuron"]:
        """Return each neuron's variance over the grid; 0 for one that is constant up to rounding."""
        mean, square = self._sum / self.n**2, self._squares / self.n**2
        variance = square - mean.square()
        return variance.where(variance > 1e-12 * square, 0)

    def explained(self) -> Float[Tensor, "freq neuron"]:
        """Return the share of each neuron's variance that each frequency carries; 0 for a constant.

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
    """One frequency of each neuron, ready to be put together again at any cell.

    Attributes:
        left: factor over a; the terms over b are still apart. Shape (3, n, neuron).
        right: 1, cos kb and sin kb, orthonormal. Shape (3, n, neuron).
        constant: each neuron's mean over the grid. Shape (neuron).
    """

    left: Float[Tensor, "3 n neuron"]
    right: Float[Tensor, "3 n neuron"]
    constant: Float[Tensor, " neuron"]

    def at(self, cells: Int[Tensor, "cell 2"]) -> Float[Tensor, "cell neuron"]:
        """Return constant and key frequency of every neuron at positions (a, b) of the group."""
        a, b = cells.unbind(1)
        total = self.left[0][a] * self.right[0][b]
        for left, right in zip(self.left[1:], self.right[1:], strict=True):
            total.addcmul_(left[a], right[b])
        return total
