"""Row and column effects of a table with missing cells."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def additive_part(
    values: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "cell class"]:
    """Fit `values[cell, c] ≈ row[a, c] + column[b, c]` by least squares on the cells given, and return the fit.

    The normal equations are singular (a constant moves between rows and columns; rows without cells are free); their
    pseudo-inverse gives the same fit whatever the design's connected components.

    Args:
        values: one row per cell; computed in float64.
        pairs: the cell's operands (a, b).
        symbols: number of symbols an operand can take.
    """
    values = values.double()
    columns = pairs + torch.tensor([0, symbols], device=pairs.device)
    # A cell touches one row and one column, so the Gram matrix holds counts and needs no design matrix.
    gram = torch.zeros(2 * symbols, 2 * symbols, dtype=torch.float64, device=values.device)
    for left in (0, 1):
        for right in (0, 1):
            gram.index_put_((columns[:, left], columns[:, right]), torch.ones_like(values[:, 0]), accumulate=True)
    totals = torch.zeros(2 * symbols, values.shape[1], dtype=torch.float64, device=values.device)
    totals.index_add_(0, columns[:, 0], values).index_add_(0, columns[:, 1], values)
    effects = torch.linalg.pinv(gram, hermitian=True) @ totals
    return effects[columns[:, 0]] + effects[columns[:, 1]]


def centre_classes(values: Float[Tensor, "cell class"]) -> Float[Tensor, "cell class"]:
    """Subtract each row's mean over classes, which no prediction depends on."""
    values = values.double()
    return values - values.mean(1, keepdim=True)
