"""Recognition of the group behind a table of answers whose rows, columns and classes are bare numbers."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping

import scipy
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.storage import record
from mechmem.math.cayley_tables import Square, latin_shares, quadrangle_share, square_part, voted
from mechmem.math.group_products import GroupFacts, group_facts, identity_of, is_group, isomorphism, loop_product
from mechmem.tasks.group_names import is_abelian, named_groups
from mechmem.tasks.groups import FiniteGroup

EXPLAINED = 0.5
"""A table is a group's if the group's table has more than this share of its answers, up to renaming."""

BY_CHANCE = 0.05
"""A table is a group's only if random answers agree as well with some renaming of one with less than this probability:
in small tables they agree with some of the n!³ renamings in more than half of the cells."""

LATIN = 0.9
"""A table is a quasigroup's if this share of its rows and of its columns hold every class once."""

EVERY_GROUP = 4
"""Up to this order every Latin square is a group's table under other names."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Recognised:
    """What a table of answers is, up to renaming its rows, columns and classes.

    Attributes:
        kind: "group"; "quasigroup", a Latin square that is no group's; or "none".
        name: name of the group, "" for a group without one here and for what is no group.
        order: number of rows, columns and classes of the square; 0 if there is none.
        table: the answers after votes and, for a group, its own in the whole square. Shape (row, column).
        rows: which rows are in the square; the others were set apart.
        columns: which columns are.
        classes: which classes are.
        outvoted: number of answers that were changed.
        latin_rows: share of the square's rows, as read, that hold every class once; of all rows, no class twice, if
            there is no square.
        latin_columns: the same of columns.
        quadrangles: how often two quadrangles that agree in three corners agree in the fourth.
        quadrangles_null: the same if the fourth corners are put together at random.
        orders: number of elements of each order, of a group.
        commuting: share of ordered pairs of elements that commute.
        centre: number of elements that commute with all.
        row_place: position in the group of the element of each row; −1 for rows set apart and without a group. The
            class of a cell is the element of its row times that of its column.
        column_place: the same of each column.
        class_place: the same of each class.
    """

    kind: str
    name: str
    order: int
    table: Int[Tensor, "row column"]
    rows: Bool[Tensor, " row"]
    columns: Bool[Tensor, " column"]
    classes: Bool[Tensor, " class"]
    outvoted: int
    latin_rows: float
    latin_columns: float
    quadrangles: float
    quadrangles_null: float
    orders: Mapping[int, int]
    commuting: float
    centre: int
    row_place: Int[Tensor, " row"]
    column_place: Int[Tensor, " column"]
    class_place: Int[Tensor, " class"]

    @property
    def inside(self) -> Bool[Tensor, "row column"]:
        """Which cells are in the square of a rule; none if there is no rule."""
        return rearrange(self.rows, "row -> row 1") & self.columns & (self.kind != "none")


def recognised(
    table: Int[Tensor, "row column"],
    n_classes: int,
    seed: int = 0,
    margins: Float[Tensor, "row column"] | None = None,
) -> Recognised:
    """Recognise the group behind a table of answers.

    Rows, columns and classes that no Latin square can hold are set apart. What is left is corrected by votes of
    quadrangles; if that is a group's table, has more than half of the answers as they were, and more than random
    answers share with any renaming, the group is named by an isomorphism.

    Args:
        table: the answers; −1 where there is none.
        n_classes: number of classes.
        seed: seed of the quadrangles.
        margins: how sure each answer is, if that is known.
    """
    square = square_part(table, n_classes, seed, margins)
    rows, columns = (torch.zeros(length, dtype=torch.bool) for length in table.shape)
    classes = torch.zeros(n_classes, dtype=torch.bool)
    places = [torch.full((length,), -1) for length in (*table.shape, n_classes)]
    if square is None:
        answered = table >= 0
        own = table[answered.any(1)][:, answered.any(0)]  # lines that the task does not have hold nothing
        latin, quadrangles = latin_shares(own), quadrangle_share(table, n_classes, seed)
        figures = (0, *latin, *quadrangles, {}, 0.0, 0)
        return Recognised("none", "", 0, table.clone(), rows, columns, classes, *figures, *places)
    n = len(square.cells)
    rows[square.rows], columns[square.columns], classes[square.classes] = True, True, True
    latin = latin_shares(square.cells)
    quadrangles = quadrangle_share(square.cells, n, seed)
    corrected = voted(square.cells, seed)
    facts = _group(corrected)
    kept = int((corrected == square.cells).sum())
    kind, name, changed = "none", "", table.clone()
    orders, commuting, centre, outvoted = {}, 0.0, 0, 0
    if facts is not None and kept > EXPLAINED * n**2 and _by_chance(kept, n) < BY_CHANCE:
        kind, orders, commuting, centre = "group", facts.order_counts, facts.commuting, facts.centre
        name, mapped = _named(facts)
        changed[rearrange(square.rows, "row -> row 1"), square.columns] = square.classes[corrected]
        outvoted = int(((corrected != square.cells) & (square.cells >= 0)).sum())
        places = _placed(square, corrected, mapped, places)
    elif facts is None and n > EVERY_GROUP and min(latin) >= LATIN:
        kind = "quasigroup"
    figures = (outvoted, *latin, *quadrangles, orders, commuting, centre)
    return Recognised(kind, name, n, changed, rows, columns, classes, *figures, *places)


def _by_chance(agreeing: int, n: int) -> float:
    """Bound the probability that a table of random answers agrees in so many cells with some renaming of one group."""
    log = scipy.stats.binom.logsf(agreeing - 1, n**2, 1 / n) + 3 * math.lgamma(n + 1)
    return math.exp(min(0.0, float(log)))


def _group(square: Int[Tensor, "n n"]) -> GroupFacts | None:
    product = loop_product(square)
    identity = -1 if product is None else identity_of(product)
    return group_facts(product, identity) if product is not None and is_group(product, identity) else None


def _named(facts: GroupFacts) -> tuple[str, Int[Tensor, " element"]]:
    """Return the simplest name of a group, and each element's position in the named one; "" and numbers otherwise."""
    for name in named_groups(len(facts.product)):
        if is_abelian(name) == (facts.commuting == 1):
            found = isomorphism(facts, _facts_of(name))
            if found is not None:
                return name, found
    return "", torch.arange(len(facts.product))


@functools.cache
def _facts_of(name: str) -> GroupFacts:
    return group_facts(FiniteGroup(name).product, 0)


def _placed(
    square: Square, cells: Int[Tensor, "n n"], mapped: Int[Tensor, " element"], places: list[Int[Tensor, " symbol"]]
) -> list[Int[Tensor, " symbol"]]:
    """Write the positions of rows, columns and classes: the classes in the first column and row name the others."""
    own = (square.rows, cells[:, 0]), (square.columns, cells[0]), (square.classes, torch.arange(len(cells)))
    for place, (numbers, elements) in zip(places, own, strict=True):
        place[numbers] = mapped[elements]
    return places
