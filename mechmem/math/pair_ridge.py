"""Kernel ridge regression on pairs of symbols, without the matrix of the kernel.

A kernel of the squared distance has three values on pairs that are one-hot side by side: for the same pair, for one
common symbol, and for none. So it is K = s·1 + U C Uᵀ, with one column of U for all examples, one per symbol in the
first place and one per symbol in the second; and (K + α)⁻¹ follows by the formula of Woodbury (1950) from a system of
2 · symbols + 1 equations, which needs counts of symbols and pairs only.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def pair_ridge(
    train: Int[Tensor, "train 2"],
    labels: Int[Tensor, " train"],
    pairs: Int[Tensor, "example 2"],
    *,
    symbols: int,
    classes: int,
    kernel: tuple[float, float, float],
    penalty: float,
) -> Float[Tensor, "example class"]:
    """Fit the one-hot labels of distinct pairs, and predict other pairs, in float64.

    Args:
        train: the pairs that are fitted, each once.
        labels: their labels.
        pairs: the pairs to predict.
        symbols: number of symbols in either place.
        classes: number of classes.
        kernel: its value for the same pair, for one common symbol, and for none; descending, the last above 0.
        penalty: α, added to the kernel's diagonal.
    """
    same, one, none = kernel
    shared, own = one - none, same - 2 * one + none
    diagonal = own + penalty
    a, b = train.T
    count_a, count_b = (torch.bincount(place, minlength=symbols).double() for place in (a, b))
    both = torch.zeros(symbols, symbols, dtype=torch.float64)
    both[a, b] = 1
    total = torch.full((1, 1), len(train), dtype=torch.float64)
    counts = torch.cat(
        [
            torch.cat([total, rearrange(count_a, "p -> 1 p"), rearrange(count_b, "p -> 1 p")], 1),
            torch.cat([rearrange(count_a, "p -> p 1"), count_a.diag(), both], 1),
            torch.cat([rearrange(count_b, "p -> p 1"), both.T, count_b.diag()], 1),
        ]
    )  # UᵀU
    given = _sums(a, b, labels, symbols, classes)  # UᵀY
    strengths = torch.full((2 * symbols + 1,), shared, dtype=torch.float64)  # the diagonal of C
    strengths[0] = none
    solved = torch.linalg.solve(counts + diagonal * (1 / strengths).diag(), given)
    # The weights are W = (Y − U · solved) / diagonal, and C UᵀW is `solved` again, which is what pairs get through U.
    predicted = _rows(solved, pairs, symbols)
    row = torch.full((symbols, symbols), -1)
    row[a, b] = torch.arange(len(train))
    fitted = row[pairs[:, 0], pairs[:, 1]]
    known = (fitted >= 0).nonzero()[:, 0]
    predicted[known] *= 1 - own / diagonal
    predicted[known, labels[fitted[known]]] += own / diagonal
    return predicted


def _sums(
    a: Int[Tensor, " train"], b: Int[Tensor, " train"], labels: Int[Tensor, " train"], symbols: int, classes: int
) -> Float[Tensor, "column class"]:
    """Return how often each class stands among all examples, among those with a symbol first, and with one second."""
    sums = torch.zeros(2 * symbols + 1, classes, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    for column in (torch.zeros_like(a), a + 1, b + 1 + symbols):
        sums.index_put_((column, labels), one, accumulate=True)
    return sums


def _rows(
    values: Float[Tensor, "column class"], pairs: Int[Tensor, "example 2"], symbols: int
) -> Float[Tensor, "example class"]:
    """Return U times these values: of a pair, the sum of those for all, for its first and for its second symbol."""
    found = values[pairs[:, 0] + 1]
    found += values[pairs[:, 1] + 1 + symbols]
    return found.add_(values[0])
