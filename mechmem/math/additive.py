"""Additive effects of rows and columns of a table, and the share of logits that depends on the operands' distance."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

ROWS = 4096
"""Number of cells processed at once, so that no intermediate result is as large as the table."""

ROUNDING = 4
"""Roundings of a class's largest value up to which a cell's residual is 0."""

LEAST_ROUNDING = 1e-12
"""The same as a share of the largest value of all, for the float64 in which effects are fitted."""

MOST_STEPS = 500
"""Most steps in which missing values are filled in; a few dozen are usual."""


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
    return _inverse(columns, symbols) @ _totals(values, columns, symbols)


def _inverse(columns: Int[Tensor, "cell 2"], symbols: int) -> Float[Tensor, "effect effect"]:
    """Return the pseudo-inverse of the design's Gram matrix.

    A cell touches one row and one column, so the Gram matrix holds counts and needs no design matrix.
    """
    gram = torch.zeros(2 * symbols, 2 * symbols, dtype=torch.float64, device=columns.device)
    one = torch.ones(len(columns), dtype=torch.float64, device=columns.device)
    for left in (0, 1):
        for right in (0, 1):
            gram.index_put_((columns[:, left], columns[:, right]), one, accumulate=True)
    return torch.linalg.pinv(gram, hermitian=True)


def _totals(
    values: Float[Tensor, "cell class"], columns: Int[Tensor, "cell 2"], symbols: int
) -> Float[Tensor, "effect class"]:
    """Sum the values of every row and of every column, in float64."""
    totals = torch.zeros(2 * symbols, values.shape[1], dtype=torch.float64, device=values.device)
    for part, place in zip(values.split(ROWS), columns.split(ROWS), strict=True):
        wide = part.double()
        totals.index_add_(0, place[:, 0], wide).index_add_(0, place[:, 1], wide)
    return totals


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
    values: Float[Tensor, "cell class"],
    pairs: Int[Tensor, "cell 2"],
    symbols: int,
    missing: Int[Tensor, " cell"] | None = None,
) -> Float[Tensor, "cell class"]:
    """Return, in float64, the residual of row and column effects fitted to values centred over classes.

    It equals `centred - additive_part(centred, pairs, symbols)`, without a second table of that size, but for a cell
    whose residual is nothing but rounding: there it is 0 for every class.

    Args:
        values: one row per cell.
        pairs: operands (a, b) of each cell.
        symbols: number of symbols an operand can take.
        missing: the class of each cell whose value is not to be read, or −1. Its residual is 0, and the fit is the
            least-squares fit of row effects, column effects and one constant per cell to all other values.
    """
    residual, columns = torch.empty_like(values, dtype=torch.float64), _columns(pairs, symbols)
    unread = torch.full_like(columns[:, 0], -1) if missing is None else missing
    for kept, part, left_out in zip(residual.split(ROWS), values.split(ROWS), unread.split(ROWS), strict=True):
        kept.copy_(part)
        cell = (left_out >= 0).nonzero()[:, 0]
        kept[cell, left_out[cell]] = 0
        kept[cell, left_out[cell]] = kept[cell].sum(1) / max(values.shape[1] - 1, 1)
        kept.copy_(centre_classes(kept))
    inverse, totals = _inverse(columns, symbols), _totals(residual, columns, symbols)
    cells = (unread >= 0).nonzero()[:, 0]
    effects = _without_missing(residual, totals, inverse, columns, cells, unread[cells])
    for kept, place in zip(residual.split(ROWS), columns.split(ROWS), strict=True):
        kept.sub_(effects[place[:, 0]]).sub_(effects[place[:, 1]])
        if len(cells):
            kept.sub_(kept.mean(1, keepdim=True))
    residual[cells, unread[cells]] = 0
    # A cell alone in its row or column has the residual 0, and rounding, which follows the largest value, is no answer.
    smallest = rounding(values)
    for kept in residual.split(ROWS):
        clear_rounding(kept, smallest)
    return residual


def clear_rounding(residual: Float[Tensor, "cell class"], smallest: Float[Tensor, " class"]) -> None:
    """Set the residuals of cells that are nothing but rounding to 0, in place.

    Args:
        residual: one row per cell.
        smallest: what may be rounding in each class (see `rounding`).
    """
    residual.masked_fill_((residual.abs() <= smallest).all(1, keepdim=True), 0)


def rounding(values: Float[Tensor, "cell class"]) -> Float[Tensor, " class"]:
    """Return what may be rounding in the residual of each class."""
    largest = torch.zeros_like(values[0], dtype=torch.float64) if len(values) else values.new_zeros(values.shape[1])
    for part in values.split(ROWS):
        largest = torch.maximum(largest, part.abs().amax(0).double()) if len(part) else largest
    # Effects are fitted in float64 to values centred over classes, so that the largest class counts for all.
    return ROUNDING * torch.finfo(values.dtype).eps * largest + LEAST_ROUNDING * largest.amax()


def _without_missing(
    values: Float[Tensor, "cell class"],
    totals: Float[Tensor, "effect class"],
    inverse: Float[Tensor, "effect effect"],
    columns: Int[Tensor, "cell 2"],
    cells: Int[Tensor, " missing"],
    classes: Int[Tensor, " missing"],
) -> Float[Tensor, "effect class"]:
    """Return row and column effects after filling in the missing values, in place, so that the fit goes through them.

    What has to be filled in solves a linear system, positive semidefinite, of one equation per missing value, which
    conjugate gradients solve without its matrix: only the totals of rows and columns with a missing value change.
    """
    if not len(cells):
        return inverse @ totals
    place, n = columns[cells], values.shape[1]

    def residual(
        totals: Float[Tensor, "effect class"], own: Float[Tensor, " missing"], mean: Float[Tensor, " missing"]
    ) -> Float[Tensor, " missing"]:
        """Return the residual at the missing values, centred over the classes of their cells."""
        effects = inverse @ totals
        level = effects.mean(1)
        off = own - effects[place[:, 0], classes] - effects[place[:, 1], classes]
        return off - (mean - level[place[:, 0]] - level[place[:, 1]])

    def alone(filled: Float[Tensor, " missing"]) -> Float[Tensor, "effect class"]:
        """Return the totals of a table that holds nothing but the values filled in."""
        only = torch.zeros_like(totals)
        for side in (0, 1):
            only.index_put_((place[:, side], classes), filled, accumulate=True)
        return only

    def product(filled: Float[np.ndarray, " missing"]) -> Float[np.ndarray, " missing"]:
        own = torch.from_numpy(filled).reshape(-1)
        return residual(alone(own), own, own / n).numpy()

    wanted = -residual(totals, values[cells, classes], values[cells].mean(1)).numpy()
    system = LinearOperator((len(cells),) * 2, product, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    solved, _ = cg(system, wanted, rtol=1e-12, maxiter=MOST_STEPS)
    filled = torch.from_numpy(solved)
    values[cells, classes] += filled
    return inverse @ (totals + alone(filled))


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
