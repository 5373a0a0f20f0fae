"""Neurons as functions n(a, b) on the grid of pairs, filtered at one frequency each.

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


def block_coefficients(values: Float[Tensor, "row n neuron"], first: int) -> Float[Tensor, "freq 3 3 neuron"]:
    """Return what some rows of the grid add to the coefficients of every frequency; summed over all rows, these.

    Args:
        values: activations at positions a = first, first + 1, … of the group and all positions b.
        first: position of the first row.

    Returns:
        float64 coefficients in the orthonormal basis (1, cos, sin) over a times (1, cos, sin) over b, for frequencies
        1 … n // 2; the constant's is repeated in each.
    """
    n = values.shape[1]
    basis = real_basis(n)
    over_b = einsum(basis, values.double(), "wave b, row b neuron -> row wave neuron")
    waves = rearrange(over_b[:, 1:], "row (freq wave) neuron -> row freq wave neuron", wave=2)
    constant = repeat(over_b[:, :1], "row wave neuron -> row freq wave neuron", freq=n // 2)
    here = basis[:, first : first + len(values)]
    own = rearrange(here[1:], "(freq wave) row -> freq wave row", wave=2)
    own = torch.cat([repeat(here[:1], "wave row -> freq wave row", freq=n // 2), own], 1)
    return einsum(own, torch.cat([constant, waves], 2), "freq i row, row freq j neuron -> freq i j neuron")


def frequency_energy(coefficients: Float[Tensor, "freq 3 3 neuron"]) -> Float[Tensor, "freq neuron"]:
    """Energy of each neuron at each frequency; the constant does not count."""
    return rearrange(coefficients.square(), "freq i j neuron -> freq (i j) neuron")[:, 1:].sum(1)


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


def key_waves(coefficients: Float[Tensor, "freq 3 3 neuron"], freq: Int[Tensor, " neuron"], n: int) -> KeyWaves:
    """Return the waves of one frequency per neuron.

    Args:
        coefficients: sums of `block_coefficients` over all rows.
        freq: a frequency per neuron, 1 … n // 2.
        n: order of the group.
    """
    own = coefficients[freq - 1, :, :, torch.arange(len(freq))]
    constant = torch.full((n, len(freq)), n**-0.5, dtype=coefficients.dtype)
    waves = torch.stack([constant, *waves_at(n, freq, coefficients)])
    left = einsum(waves, own, "i a neuron, neuron i j -> j a neuron")
    return KeyWaves(left, waves, own[:, 0, 0] / n)
