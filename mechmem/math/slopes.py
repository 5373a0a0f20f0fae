"""How much of a table lies on the lines a + j·b = c of the grid, for every slope j at once."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.math.grid_parts import free_modes


def energy_on_lines(energy: Float[Tensor, "n half"]) -> Float[Tensor, " slope"]:
    """Share of the energy off the axes that means over the lines of each slope hold, for a table on the whole grid.

    A function of a + j·b has modes (k, j·k), so the shares are sums of mode energies. Where n is prime every mode lies
    on the lines of exactly one slope, and the shares sum to 1.

    Args:
        energy: energies as `fourier.mode_energy` lists them; modes (k, 0) and (0, k) do not count.

    Returns:
        shares of the slopes j = 0 … n − 1; that of 0 is 0, and all are where there is no energy off the axes.
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
    """Share of a table's sum of squares that means over the lines of each slope explain, where cells are missing.

    Sums over lines are read off the 2-D spectrum: those of slope j have the 1-D spectrum F[k, j·k].

    Args:
        tables: the table as grids of a few classes each, 0 on cells that are missing.
        present: which cells are not.

    Returns:
        shares of the slopes j = 0 … n − 1; all are 0 for a table of zeros.
    """
    n = len(present)
    column, k = _line_modes(n)

    def sums(block: Float[Tensor, "class n n"]) -> Float[Tensor, "class slope line"]:
        return torch.fft.ifft(torch.fft.fft2(block)[:, k, column]).real

    cells = sums(present.double()[None])[0].round().clamp_min(1)
    explained, total = torch.zeros(n, dtype=torch.float64), 0.0
    for block in tables:
        # In place where it can be: these are the largest arrays of the analysis.
        explained += sums(block).square_().sum(0).div_(cells).sum(1)
        total += float(block.square().sum())
    return explained / (total or 1.0)


def occupied_lines(present: Bool[Tensor, "n n"]) -> Int[Tensor, " slope"]:
    """Count the lines of each slope j = 0 … n − 1 that have a cell.

    Of noise, means over the lines explain about as many parts as there are such lines, among as many as there are
    cells: slopes with fewer of them have smaller shares for it.
    """
    column, k = _line_modes(len(present))
    cells = torch.fft.ifft(torch.fft.fft2(present.double())[k, column]).real
    return (cells.round() > 0).sum(1)


def _line_modes(n: int) -> tuple[Int[Tensor, "slope n"], Int[Tensor, "1 n"]]:
    """Frequencies over b, and over a, of the modes that functions of a + j·b have."""
    k = torch.arange(n)
    return (torch.arange(n)[:, None] * k) % n, k[None]


def leave_one_out_z(values: Float[np.ndarray, " slope"]) -> Float[np.ndarray, " slope"]:
    """Return each value in standard deviations of all others from their mean; NaN with fewer than two others."""
    n = len(values)
    if n < 3:
        return np.full(n, np.nan)
    others = np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    deviation = others.std(1, ddof=1)
    # Others that are equal up to rounding are no distribution to stand out from.
    usable = deviation > 1e-12 * np.abs(values).max()
    return np.where(usable, (values - others.mean(1)) / np.where(usable, deviation, 1.0), np.nan)
