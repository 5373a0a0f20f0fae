"""Logits on the grid of all pairs of group elements, taken apart without a second table of their size.

A table mod p holds p³ numbers (527 MB in float32 at p = 509). What is read out of it is small: means over rows, columns
and answers are p × p, energies of modes p × p. So the table is read in blocks, of rows or of classes, in float64, and
parts of it are put together again only for the cells that are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor

from mechmem.math.additive import ROWS, centre_classes
from mechmem.math.fourier import grid_modes, mode_energy

BLOCK_ELEMENTS = 2**22
"""Numbers of a table that are held at once as float64 tables of whole classes: 34 MB, and twice that as a spectrum."""


@dataclasses.dataclass(frozen=True, eq=False)
class GridParts:
    """Row effects, column effects and rule of a table on the grid; with the remainder they sum to it exactly.

    On the full grid the three are orthogonal: entry (a, b) is row[a] + column[b] + rule[answer] + remainder.

    Attributes:
        row: mean over b; the table's mean is in here. Shape (n, class), in the units of the table, as all three.
        column: mean over a, less the table's mean. Shape (n, class).
        rule: mean over the cells that share an answer, less the table's mean. Shape (n, class).
    """

    row: Float[Tensor, "n class"]
    column: Float[Tensor, "n class"]
    rule: Float[Tensor, "n class"]

    def centred(self) -> GridParts:
        """Return the parts of the same table with each cell's mean over classes taken out."""
        return GridParts(centre_classes(self.row), centre_classes(self.column), centre_classes(self.rule))


def grid_parts(values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], sign: int) -> GridParts:
    """Average a table over its rows, its columns, and the cells that share an answer.

    Args:
        values: a table that holds the grid's cells among its rows.
        rows: the row of `values` of each cell, in the order of the group.
        sign: the answer of (a, b) is a + sign·b, in positions of the group.
    """
    n, position = len(rows), torch.arange(len(rows))
    row, column, answer = torch.zeros(3, n, values.shape[1], dtype=torch.float64)
    for a in range(n):
        table = values[rows[a]].double()
        row[a] = table.mean(0)
        column += table
        # Each answer occurs once in a row of the grid.
        answer[(a + sign * position) % n] += table
    mean = row.mean(0)
    return GridParts(row, column / n - mean, answer / n - mean)


def class_mean(values: Float[Tensor, "example class"]) -> Float[Tensor, " example"]:
    """Return each row's mean over classes, in float64."""
    return torch.cat([part.double().mean(1) for part in values.split(ROWS)])


def class_tables(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], *, centred: bool
) -> Iterator[Float[Tensor, "class n n"]]:
    """Yield the table in float64 as grids of a few classes each, in the order of the classes.

    Args:
        values: a table that holds the grid's cells among its rows.
        rows: the row of `values` of each cell.
        centred: whether each cell's mean over classes is taken out.
    """
    mean = class_mean(values)[rows] if centred else None
    for block in values.split(max(1, BLOCK_ELEMENTS // rows.numel()), 1):
        tables = rearrange(block[rows].double(), "a b classes -> classes a b").contiguous()
        yield tables if mean is None else tables.sub_(mean)


def grid_energy(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], *, centred: bool
) -> Float[Tensor, "n half"]:
    """Energy of the table's modes (k₁, k₂), summed over classes, as `mode_energy` lists them.

    Args:
        values: a table that holds the grid's cells among its rows.
        rows: the row of `values` of each cell.
        centred: whether each cell's mean over classes is taken out first.
    """
    n = len(rows)
    energy = torch.zeros(n, n // 2 + 1, dtype=torch.float64)
    for tables in class_tables(values, rows, centred=centred):
        energy += mode_energy(_modes(tables))
    return energy


def _modes(tables: Float[Tensor, "class n n"]) -> Complex[Tensor, "n half class"]:
    return grid_modes(rearrange(tables, "classes a b -> a b classes"))


def free_modes(energy: Float[Tensor, "n half"]) -> tuple[Int[Tensor, "mode 2"], Float[Tensor, " mode"]]:
    """List the modes that are not additive, each counted once together with its conjugate.

    Args:
        energy: energies as `mode_energy` lists them.

    Returns:
        frequencies (k₁, k₂), k₁ = 1 … n − 1 and k₂ = 1 … n // 2; and the energy of each with its conjugate. In the
        Nyquist column of an even n, where both of a pair are listed, k₁ = 1 … n // 2 stand for the pairs.
    """
    n, half = energy.shape
    modes = torch.cartesian_prod(torch.arange(1, n), torch.arange(1, half))
    nyquist = 2 * modes[:, 1] == n
    modes = modes[~(nyquist & (2 * modes[:, 0] > n))]
    paired = (2 * modes[:, 1] == n) & (2 * modes[:, 0] != n)
    found = energy[modes[:, 0], modes[:, 1]]
    return modes, torch.where(paired, 2 * found, found)


def rule_modes(n: int, sign: int) -> Int[Tensor, "freq 2"]:
    """Return the modes (sign·k, k), k = 1 … n // 2, of a function of the answer, in the order of k."""
    k = torch.arange(1, n // 2 + 1)
    return torch.stack([(sign * k) % n, k], 1)


def mode_coefficients(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], modes: Int[Tensor, "mode 2"]
) -> Float[Tensor, "wave class"]:
    """Return what multiplies the waves of `mode_waves` to give these modes' part of the table.

    Args:
        values: a table that holds the grid's cells among its rows.
        rows: the row of `values` of each cell.
        modes: frequencies (k₁, k₂) as `free_modes` lists them.
    """
    n = len(rows)
    found = [_modes(tables)[modes[:, 0], modes[:, 1]] for tables in class_tables(values, rows, centred=False)]
    # Both of a pair of conjugates are meant; a mode that is its own conjugate is alone.
    own = ((2 * modes) % n == 0).all(1)
    coefficients = torch.cat(found, 1) * rearrange((2 - own.double()) / n, "mode -> mode 1")
    waves = torch.stack([coefficients.real, -coefficients.imag])
    return rearrange(waves, "wave mode classes -> (mode wave) classes")


def mode_waves(cells: Int[Tensor, "cell 2"], modes: Int[Tensor, "mode 2"], n: int) -> Float[Tensor, "cell wave"]:
    """Cosine and sine of each mode at each cell, in turns: cos, sin of the first mode, then of the second, ….

    Args:
        cells: positions (a, b) in the group.
        modes: frequencies (k₁, k₂).
        n: order of the group.
    """
    angle = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    waves = torch.stack([angle.cos(), angle.sin()], 1)[(cells @ modes.T) % n]
    return rearrange(waves, "cell mode wave -> cell (mode wave)")
