"""Tables of a binary operation as a network gives them: Latin square and quadrangle criterion.

Rows, columns and classes are bare numbers, and nothing is known of how they belong together. A table is a group's up to
renaming rows, columns and classes (an isotope) if and only if it is a Latin square that meets the quadrangle criterion:
whenever two quadrangles agree in three corners, they agree in the fourth (Dénes & Keedwell 1974, theorem 1.2.1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.randomness import generator

DRAWS = 20_000
"""Pairs of quadrangles that are compared."""

VOTES = 25
"""Pairs of quadrangles that vote on a cell."""

PASSES = 8
"""Most passes of votes over a table."""

DEGENERATE = 0.5
"""A row or column with fewer distinct classes than this share of its cells is set apart, and so is a class that fills
less than this share of the cells that a Latin square gives it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Square:
    """A square part of a table, its classes numbered from 0; −1 marks a cell without an answer.

    Attributes:
        cells: the answers. Shape (row, column).
        rows: the table's rows in it.
        columns: its columns.
        classes: its classes; class i of `cells` is `classes[i]` of the table.
    """

    cells: Int[Tensor, "n n"]
    rows: Int[Tensor, " n"]
    columns: Int[Tensor, " n"]
    classes: Int[Tensor, " n"]


def square_part(
    table: Int[Tensor, "row column"],
    n_classes: int,
    seed: int = 0,
    margins: Float[Tensor, "row column"] | None = None,
) -> Square | None:
    """Set apart the rows, columns and classes that no Latin square can hold; None if no square of 2 or more is left.

    A product with 0 is 0, for example: one row, one column and one class are not those of a group. Rows and columns go
    in which few classes fill the cells, and of two that agree in most cells the one that is answered less surely: a
    symbol that has no place of its own in a network's rule is answered like another. If what is left is no square of as
    many classes, those go that break quadrangles: whose cells other quadrangles predict half as often as those of the
    median row or column. Then classes go that are rare.

    Args:
        table: the answers; −1 where there is none.
        n_classes: number of classes.
        seed: seed of the quadrangles.
        margins: how sure each answer is; by default all alike, and of two lines the later one goes.
    """
    sure = torch.zeros(table.shape) if margins is None else margins
    rows, columns = (_varied(lines) & ~_copies(lines, weight) for lines, weight in ((table, sure), (table.T, sure.T)))
    found = _square(table, rows, columns, n_classes)
    if found is None and int(rows.sum()) > 2 and int(columns.sum()) > 2:
        fitting = _fitting(table[rows][:, columns], n_classes, seed)
        for lines, fits in zip((rows, columns), fitting, strict=True):
            lines[lines.nonzero()[:, 0][~fits]] = False
        found = _square(table, rows, columns, n_classes)
    return found


def _square(
    table: Int[Tensor, "row column"], rows: Bool[Tensor, " row"], columns: Bool[Tensor, " column"], n_classes: int
) -> Square | None:
    """Return the part of a table in these rows and columns, without rare classes; None if it is no square."""
    inner = table[rows][:, columns]
    counts = torch.bincount(inner[inner >= 0].flatten(), minlength=n_classes)
    classes = (counts >= DEGENERATE * max(inner.shape)).nonzero()[:, 0]
    n = len(classes)
    if n < 2 or inner.shape != (n, n):
        return None
    number = torch.full((n_classes + 1,), -1)
    number[classes] = torch.arange(n)
    return Square(number[inner], rows.nonzero()[:, 0], columns.nonzero()[:, 0], classes)


def _varied(table: Int[Tensor, "line cell"]) -> Bool[Tensor, " line"]:
    """Return which lines hold at least half as many distinct classes as answers, and any."""
    ordered = table.sort(1).values
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    known = ordered >= 0
    return known.any(1) & ((fresh & known).sum(1) >= DEGENERATE * known.sum(1))


def _copies(table: Int[Tensor, "line cell"], margins: Float[Tensor, "line cell"]) -> Bool[Tensor, " line"]:
    """Return which lines agree in most cells with one that is surer; lines of a Latin square agree in none."""
    order = margins.mean(1).argsort(descending=True, stable=True)
    copies = torch.zeros(len(table), dtype=torch.bool)
    known = table >= 0
    for place, line in enumerate(order.tolist()):
        surer = order[:place]
        surer = surer[~copies[surer]]
        both = known[line] & known[surer]
        agreed = ((table[surer] == table[line]) & both).sum(1)
        copies[line] = bool((agreed > DEGENERATE * both.sum(1)).any())
    return copies


def _fitting(
    table: Int[Tensor, "row column"], n_classes: int, seed: int
) -> tuple[Bool[Tensor, " row"], Bool[Tensor, " column"]]:
    """Return which rows and columns other quadrangles predict at least half as often as the median one."""
    draw = generator(seed, "rows and columns set apart")
    rows, columns = table.shape
    row, column = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T
    agreed, tried = torch.zeros(2, rows, columns, dtype=torch.float64)
    predict = _predictor(table, n_classes)
    for _ in range(VOTES):
        said = predict(row, column, draw).reshape(rows, columns)
        tried += (said >= 0) & (table >= 0)
        agreed += (said == table) & (table >= 0)
    shares = [agreed.sum(axis) / tried.sum(axis).clamp_min(1) for axis in (1, 0)]
    by_row, by_column = (share >= DEGENERATE * share.median() for share in shares)
    return by_row, by_column


def latin_shares(table: Int[Tensor, "row column"]) -> tuple[float, float]:
    """Return the shares of rows and of columns that hold no class twice and have an answer in every cell."""
    shares = []
    for lines in (table, table.T):
        ordered = lines.sort(1).values
        single = (ordered[:, 1:] > ordered[:, :-1]).all(1) & (ordered[:, 0] >= 0)
        shares.append(float(single.double().mean()))
    return shares[0], shares[1]


def quadrangle_share(
    table: Int[Tensor, "row column"], n_classes: int, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """Return how often the fourth corners of two quadrangles agree that agree in the other three, and its null.

    Args:
        table: the answers; cells of −1 are in no quadrangle.
        n_classes: number of classes.
        seed: seed of the draws.
        draws: number of pairs of quadrangles.

    Returns:
        the share, and the share of agreeing fourth corners among pairs of quadrangles put together at random; both 0 if
        no two quadrangles agree in three corners.
    """
    if min(table.shape) < 2:
        return 0.0, 0.0
    draw = generator(seed, "quadrangles")
    row, column = (torch.randint(length, (draws,), generator=draw) for length in table.shape)
    first, second = _predictor(table, n_classes)(row, column, draw), table[row, column]
    known = (first >= 0) & (second >= 0)
    first, second = first[known], second[known]
    if not len(first):
        return 0.0, 0.0
    mixed = second[torch.randperm(len(second), generator=draw)]
    return float((first == second).double().mean()), float((first == mixed).double().mean())


Predict = Callable[[Int[Tensor, " cell"], Int[Tensor, " cell"], torch.Generator], Int[Tensor, " cell"]]


def _predictor(table: Int[Tensor, "row column"], n_classes: int) -> Predict:
    """Return what predicts cells from quadrangles: −1 where the random quadrangles that were drawn do not exist.

    The other corners of a random quadrangle at the cell are x in its row, y in its column and z across. In another row
    x, below it z, and y in the row of z fix a second quadrangle, whose fourth corner is the prediction.
    """
    rows, columns = table.shape
    in_row, in_column = _places(table, n_classes), _places(table.T, n_classes)

    def predict(row: Int[Tensor, " cell"], column: Int[Tensor, " cell"], draw: torch.Generator) -> Tensor:
        def others(own: Int[Tensor, " cell"], count: int) -> Int[Tensor, " cell"]:
            return (own + torch.randint(1, count, own.shape, generator=draw)) % count

        other_row, other_column = others(row, rows), others(column, columns)
        x, y, z = table[row, other_column], table[other_row, column], table[other_row, other_column]
        new_row = others(row, rows)
        across_row = _at(in_column, _at(in_row, new_row, x), z)
        far_column = _at(in_row, across_row, y)
        return torch.where(far_column >= 0, table[new_row, far_column.clamp_min(0)], -1)

    return predict


def _places(table: Int[Tensor, "line cell"], n_classes: int) -> Int[Tensor, "line class"]:
    """Return the place of each class in each line; −1 if it is not there, any one if it is there several times."""
    lines, cells = table.shape
    found = torch.full((lines, n_classes + 1), -1)
    # Cells without an answer write into a column of their own.
    found.scatter_(1, table.where(table >= 0, n_classes), repeat(torch.arange(cells), "cell -> line cell", line=lines))
    return found[:, :n_classes]


def _at(
    places: Int[Tensor, "line class"], line: Int[Tensor, " cell"], answer: Int[Tensor, " cell"]
) -> Int[Tensor, " cell"]:
    return torch.where((line >= 0) & (answer >= 0), places[line.clamp_min(0), answer.clamp_min(0)], -1)


def voted(square: Int[Tensor, "n n"], seed: int = 0) -> Int[Tensor, "n n"]:
    """Return the table after every cell was outvoted by what quadrangles elsewhere say of it, until nothing changes.

    In a group's table with a few mistakes, most predictions of a cell are right.
    """
    n = len(square)
    for step in range(PASSES):
        draw = generator(seed, "votes on cells", step)
        row, column = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
        predict = _predictor(square, n)
        said = torch.stack([predict(row, column, draw) for _ in range(VOTES)])
        # Counted per vote: counts per class would take n³ numbers.
        support = torch.stack([((said == own) & (own >= 0)).sum(0) for own in said])
        new = said.gather(0, support.argmax(0, keepdim=True)).reshape(n, n)
        if torch.equal(new, square):
            break
        square = new
    return square
