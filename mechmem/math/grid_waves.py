"""How much of a function on the grid of pairs is a polynomial of degree two in the waves of one frequency."""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.math.fourier import real_basis

BLOCK_ELEMENTS = 2**21
"""Numbers of the design, cells by waves, that are held at once."""


class GridWaves:
    """Running sums from which the explained variance of many functions on the grid of pairs follows.

    For frequency k the waves are cos and sin of ka and of kb, and the four products of one of a with one of b: with the
    constant the nine functions {1, cos ka, sin ka} × {1, cos kb, sin kb}. They are orthonormal on the whole grid, and
    those of different k orthogonal to each other. (The Nyquist frequency of an even n has three of the eight.)

    Cells may come in any order, in any number of blocks; each of the n² cells has to come once.

    Args:
        n: order of the group.
        neurons: number of functions.
    """

    def __init__(self, n: int, neurons: int):
        self.n = n
        self.seen = 0
        self._basis = real_basis(n)
        self._coefficients = torch.zeros(n // 2, 8, neurons, dtype=torch.float64)
        self._sum, self._squares = torch.zeros(2, neurons, dtype=torch.float64)

    def add(self, cells: Int[Tensor, "cell 2"], values: Float[Tensor, "cell neuron"]) -> None:
        """Take in some cells.

        Args:
            cells: positions (a, b) in the group.
            values: each function's value there.
        """
        rows = max(1, BLOCK_ELEMENTS // (8 * max(1, self.n // 2)))
        for at, block in zip(cells.split(rows), values.split(rows), strict=True):
            wide = block.double()
            self._sum += wide.sum(0)
            self._squares += wide.square().sum(0)
            flat = rearrange(self._waves(at), "cell freq wave -> (freq wave) cell") @ wide
            self._coefficients += rearrange(flat, "(freq wave) neuron -> freq wave neuron", wave=8)
        self.seen += len(cells)

    def _waves(self, cells: Int[Tensor, "cell 2"]) -> Float[Tensor, "cell freq 8"]:
        at = rearrange(self._basis[1:], "(freq wave) element -> element freq wave", wave=2)
        a, b = at[cells[:, 0]], at[cells[:, 1]]
        products = rearrange(einsum(a, b, "cell freq i, cell freq j -> cell freq i j"), "... i j -> ... (i j)")
        return torch.cat([a * self.n**-0.5, b * self.n**-0.5, products], -1)

    def variance(self) -> Float[Tensor, " neuron"]:
        """Return each function's variance over the cells; 0 for one that is constant up to rounding."""
        mean = self._sum / self.seen
        variance = self._squares / self.seen - mean.square()
        negligible = 1e-12 * self._squares / self.seen
        return variance.where(variance > negligible, 0)

    def explained(self) -> Float[Tensor, "freq neuron"]:
        """Return the share of each function's variance that the waves of each frequency carry; 0 for a constant.

        The shares of all frequencies sum to at most 1 once every cell of the grid has come, and mean nothing before.
        """
        total = self.variance() * self.seen
        return self._coefficients.square().sum(1) / total.where(total > 0, torch.inf)
