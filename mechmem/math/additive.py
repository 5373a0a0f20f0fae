"""Additive effects of rows and columns of a table, and the share of logits that depends on the operands' distance."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS = 4096
"""Number of cells processed at once, so that no intermediate result is as large as the table."""


def additive_effects(
    values: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "effect class"]:
    """Fit `values[cell, c] ≈ row[a, c] + column[b, c]` by least squares on the given cells.

    The normal equations are singular (a constant can move between rows and columns; rows without cells are free); the
    pseudo-inverse gives the same fit for any connected components of the design.

    Args:
        values: one row per cell; summed in float64, one block of cells at a time.
        pairs: operands (a, b) of each cell.
        symbols: number of symbols an operand can take.

    Returns:
        float64 effects: `symbols` rows of row effects, then as many of column effects. Shape (2·symbols, class).
    """
    columns = _columns(pairs, symbols)
    # A cell touches one row and one column, so the Gram matrix holds counts and needs no design matrix.
    gram = torch.zeros(2 * symbols, 2 * symbols, dtype=torch.float64, device=values.device)
    one = torch.ones(len(values), dtype=torch.float64, device=values.device)
    for left in (0, 1):
        for right in (0, 1):
            gram.index_put_((columns[:, left], columns[:, right]), one, accumulate=True)
    totals = torch.zeros(2 * symbols, values.shape[1], dtype=torch.float64, device=values.device)
    for part, place in zip(values.split(ROWS), columns.split(ROWS), strict=True):
        wide = part.double()
        totals.index_add_(0, place[:, 0], wide).index_add_(0, place[:, 1], wide)
    return torch.linalg.pinv(gram, hermitian=True) @ totals


def additive_part(
    values: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "cell class"]:
    """Return the least-squares fit of row and column effects (see `additive_effects`) on the given cells, in float64.

    Args:
        values: one row per cell.
        pairs: operands (a, b) of each cell.
        symbols: number of symbols an operand can take.
    """
    effects, columns = additive_effects(values, pairs, symbols), _columns(pairs, symbols)
    return effects[columns[:, 0]].add_(effects[columns[:, 1]])


def additive_residual(
    values: Float[Tensor, "cell class"], pairs: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "cell class"]:
    """Return, in float64, the residual of row and column effects fitted to values centred over classes.

    It equals `centred - additive_part(centred, pairs, symbols)`, without a second table of that size.

    Args:
        values: one row per cell.
        pairs: operands (a, b) of each cell.
        symbols: number of symbols an operand can take.
    """
    residual, columns = torch.empty_like(values, dtype=torch.float64), _columns(pairs, symbols)
    for kept, part in zip(residual.split(ROWS), values.split(ROWS), strict=True):
        kept.copy_(centre_classes(part))
    effects = additive_effects(residual, pairs, symbols)
    for kept, place in zip(residual.split(ROWS), columns.split(ROWS), strict=True):
        kept.sub_(effects[place[:, 0]]).sub_(effects[place[:, 1]])
    return residual


def centre_classes(values: Float[Tensor, "cell class"]) -> Float[Tensor, "cell class"]:
    """Subtract each row's mean over classes, which does not affect predictions; in float64."""
    values = values.double()
    return values - values.mean(1, keepdim=True)


def correct_logits(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], sign: int, classes: Int[Tensor, " n"]
) -> Float[Tensor, "distance n"]:
    """Return the logits of the correct answers, sorted by the distance between the operands.

    Args:
        values: logits whose rows include the grid's cells.
        rows: row of `values` for each pair of positions in the group.
        sign: the answer to positions (a, b) is at position a + sign·b.
        classes: the class at each position of the group.

    Returns:
        float64 logits; row d holds those of the n pairs with a − sign·b = d, in the order of a. (Subtraction adds −b,
        so d is then a + b.)
    """
    n = len(rows)
    a = torch.arange(n)
    distance = a[:, None]
    b = (sign * (a - distance)) % n
    return values[rows[a, b], classes[(a + sign * b) % n]].double()


def irrelevance(
    deviation: Float[np.ndarray, "*resample distance"], mean: Float[np.ndarray, "*resample distance"], axis: int = -1
) -> Float[np.ndarray, "*resample"]:
    """Distance irrelevance: mean over distances of the standard deviation at that distance, over that of all logits.

    It is 0 for a function of the distance alone, 1 for one that does not depend on the distance, and 0 if all logits
    are equal. A statistic for `bootstrap`.

    Args:
        deviation: standard deviation of the correct answers' logits at each distance.
        mean: their mean at each distance.
        axis: the axis of the distances.
    """
    total = np.sqrt((deviation**2).mean(axis) + mean.var(axis))
    return np.asarray(deviation.mean(axis) / np.where(total > 0, total, np.inf))


def cosine(left: Float[Tensor, "triple dim"], right: Float[Tensor, "triple dim"]) -> Float[Tensor, " triple"]:
    """Cosine of the angle between two vectors, in float64; NaN if one of them is zero."""
    left, right = left.double(), right.double()
    # Scaled by the largest entry first, because squares of small gradients would underflow.
    left, right = (v / v.abs().amax(1, keepdim=True) for v in (left, right))
    return (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1))


def _columns(pairs: Int[Tensor, "cell 2"], symbols: int) -> Int[Tensor, "cell 2"]:
    """Positions of each cell's row and column effect among the effects."""
    return pairs + torch.tensor([0, symbols], device=pairs.device)
