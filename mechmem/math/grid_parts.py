"""Decomposition of logits on the grid of all pairs of group elements, without a second table of their size.

A table mod p holds p³ numbers (527 MB in float32 at p = 509), but its parts are small: means over rows, columns and
answers are p × p, and so are energies of modes. The table is therefore read in blocks of rows or classes, in float64,
and parts of it are rebuilt only at requested cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from mechmem.math.additive import ROWS, centre_classes
from mechmem.math.fourier import grid_modes, mode_energy

BLOCK_ELEMENTS = 2**22
"""Number of values held at once as float64 tables of whole classes: 34 MB, and twice that as a spectrum."""


@dataclasses.dataclass(frozen=True, eq=False)
class GridParts:
    """Row effects, column effects and rule of a table on the grid, which they and the remainder sum to exactly.

    On the full grid the parts are orthogonal: entry (a, b) is row[a] + column[b] + rule[answer] + remainder. All are in
    the units of the table.

    Attributes:
        row: mean over b, including the table's mean. Shape (n, class).
        column: mean over a, minus the table's mean. Shape (n, class).
        rule: mean over the cells that share an answer, minus the table's mean. Shape (n, class).
    """

    row: Float[Tensor, "n class"]
    column: Float[Tensor, "n class"]
    rule: Float[Tensor, "n class"]

    def centred(self) -> GridParts:
        """Return the parts of the same table with each cell's mean over classes subtracted."""
        return GridParts(centre_classes(self.row), centre_classes(self.column), centre_classes(self.rule))


def grid_parts(values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], sign: int) -> GridParts:
    """Average a table over rows, over columns, and over the cells that share an answer.

    Args:
        values: a table whose rows include the grid's cells.
        rows: the row of `values` for each cell, in the order of the group.
        sign: the answer to (a, b) is a + sign·b, in positions of the group.
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
        values: a table whose rows include the grid's cells.
        rows: the row of `values` for each cell.
        centred: whether to subtract each cell's mean over classes.
    """
    mean = class_mean(values)[rows] if centred else None
    for block in values.split(max(1, BLOCK_ELEMENTS // rows.numel()), 1):
        tables = rearrange(block[rows].double(), "a b classes -> classes a b").contiguous()
        yield tables if mean is None else tables.sub_(mean)


def grid_energy(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], *, centred: bool
) -> Float[Tensor, "n half"]:
    """Energy of the table's modes (k₁, k₂), summed over classes, in the layout of `mode_energy`.

    Args:
        values: a table whose rows include the grid's cells.
        rows: the row of `values` for each cell.
        centred: whether to subtract each cell's mean over classes first.
    """
    n = len(rows)
    energy = torch.zeros(n, n // 2 + 1, dtype=torch.float64)
    for tables in class_tables(values, rows, centred=centred):
        energy += mode_energy(_modes(tables))
    return energy


def free_modes(energy: Float[Tensor, "n half"]) -> tuple[Int[Tensor, "mode 2"], Float[Tensor, " mode"]]:
    """List the modes that are not additive, each once together with its conjugate.

    Args:
        energy: energies in the layout of `mode_energy`.

    Returns:
        frequencies (k₁, k₂), k₁ = 1 … n − 1 and k₂ = 1 … n // 2; and the energy of each with its conjugate. In the
        Nyquist column of an even n, which contains both members of a pair, k₁ = 1 … n // 2 represent the pairs.
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
    """Return the coefficients of the waves of `mode_waves` in the table.

    Args:
        values: a table whose rows include the grid's cells.
        rows: the row of `values` for each cell.
        modes: frequencies (k₁, k₂) as returned by `free_modes`.
    """
    n = len(rows)
    found = [_modes(tables)[modes[:, 0], modes[:, 1]] for tables in class_tables(values, rows, centred=False)]
    # A mode counts together with its conjugate, unless it is its own conjugate.
    own = ((2 * modes) % n == 0).all(1)
    coefficients = torch.cat(found, 1) * rearrange((2 - own.double()) / n, "mode -> mode 1")
    waves = torch.stack([coefficients.real, -coefficients.imag])
    return rearrange(waves, "wave mode classes -> (mode wave) classes")


def mode_waves(cells: Int[Tensor, "cell 2"], modes: Int[Tensor, "mode 2"], n: int) -> Float[Tensor, "cell wave"]:
    """Cosine and sine of each mode at each cell, interleaved: cos, sin of the first mode, then of the second, ….

    Args:
        cells: positions (a, b) in the group.
        modes: frequencies (k₁, k₂).
        n: order of the group.
    """
    angle = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
    waves = torch.stack([angle.cos(), angle.sin()], 1)[(cells @ modes.T) % n]
    return rearrange(waves, "cell mode wave -> cell (mode wave)")


def energy_on_lines(energy: Float[Tensor, "n half"]) -> Float[Tensor, " slope"]:
    """Share of the energy off the axes in the means over the lines of each slope, for a table on the whole grid.

    A function of a + j·b has modes (k, j·k), so the shares are sums of mode energies. If n is prime, every mode is on
    the lines of exactly one slope, and the shares sum to 1.

    Args:
        energy: energies in the layout of `fourier.mode_energy`; modes (k, 0) and (0, k) are ignored.

    Returns:
        shares of the slopes j = 0 … n − 1; 0 for slope 0, and for all slopes if there is no energy off the axes.
    """
    n = len(energy)
    modes, found = free_modes(energy)
    full = torch.zeros(n, n, dtype=torch.float64)
    own = ((2 * modes) % n == 0).all(1)
    for mirrored in (modes, (-modes) % n):
        full[mirrored[:, 0], mirrored[:, 1]] = torch.where(own, found, found / 2)
    column, k = _line_modes(n)
    return full[k, column].sum(1) / float(found.sum() or 1.0)


def share_on_lines(
    tables: Iterable[Float[Tensor, "class n n"]], present: Bool[Tensor, "n n"]
) -> Float[Tensor, " slope"]:
    """Share of the sum of squares of a table with missing cells explained by means over the lines of each slope.

    Sums over lines come from the 2-D spectrum F: those of slope j have the 1-D spectrum F[k, j·k].

    Args:
        tables: the table as grids of a few classes each, 0 on missing cells.
        present: which cells are present.

    Returns:
        shares of the slopes j = 0 … n − 1; all 0 for a table of zeros.
    """
    n = len(present)
    column, k = _line_modes(n)

    def sums(block: Float[Tensor, "class n n"]) -> Float[Tensor, "class slope line"]:
        return torch.fft.ifft(torch.fft.fft2(block)[:, k, column]).real

    cells = sums(present.double()[None])[0].round().clamp_min(1)
    explained, total = torch.zeros(n, dtype=torch.float64), 0.0
    for block in tables:
        # In place where possible: these are the largest arrays of the analysis.
        explained += sums(block).square_().sum(0).div_(cells).sum(1)
        total += float(block.square().sum())
    return explained / (total or 1.0)


def occupied_lines(present: Bool[Tensor, "n n"]) -> Int[Tensor, " slope"]:
    """Count the lines of each slope j = 0 … n − 1 that contain a cell.

    The share of noise explained by means over the lines is about their number over the number of cells, so slopes with
    fewer occupied lines have smaller shares.
    """
    column, k = _line_modes(len(present))
    cells = torch.fft.ifft(torch.fft.fft2(present.double())[k, column]).real
    return (cells.round() > 0).sum(1)


def leave_one_out_z(values: Float[np.ndarray, " slope"]) -> Float[np.ndarray, " slope"]:
    """Return each value in standard deviations of all others from their mean; NaN with fewer than two others."""
    n = len(values)
    if n < 3:
        return np.full(n, np.nan)
    others = np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    deviation = others.std(1, ddof=1)
    # Others that are equal up to rounding define no distribution.
    usable = deviation > 1e-12 * np.abs(values).max()
    return np.where(usable, (values - others.mean(1)) / np.where(usable, deviation, 1.0), np.nan)


def _modes(tables: Float[Tensor, "class n n"]) -> Complex[Tensor, "n half class"]:
    return grid_modes(rearrange(tables, "classes a b -> a b classes"))


def _line_modes(n: int) -> tuple[Int[Tensor, "slope n"], Int[Tensor, "1 n"]]:
    """Frequencies over b and over a of the modes of functions of a + j·b."""
    k = torch.arange(n)
    return (torch.arange(n)[:, None] * k) % n, k[None]
