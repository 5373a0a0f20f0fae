"""Structure of the logits by slope j of a + j·b, which reveals the network's operation without knowing it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MechmemError, MissingNeedError
from mechmem.math.additive import additive_residual
from mechmem.math.grid_parts import energy_on_lines, grid_energy, leave_one_out_z, occupied_lines, share_on_lines
from mechmem.models.reading.forward import all_logits
from mechmem.models.reading.grid import grid_cells, logit_energy
from mechmem.plotting.lines import lines
from mechmem.plotting.style import SplitStyle
from mechmem.scorecard.controls import kernel_ridge, label_grid
from mechmem.tasks.grid import grid_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

NEGLIGIBLE = 1e-10
"""Share of the energy below which the residual of row and column effects is rounding error."""

STYLES = {
    "network": SplitStyle("network, all inputs", "#D55E00", "diamond", "dashdot"),
    "network held out": SplitStyle("network, held-out inputs only", "#009E73", "circle", "solid"),
    "labels": SplitStyle("given labels, no network", "#6b6b6b", "pentagon-open", "dot"),
    "kernel ridge": SplitStyle("kernel ridge on the labels", "#9a9a9a", "star-open", "dash"),
}
"""The sources; those without a network are grey, as controls are in every figure."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class OperationScanResult(Result):
    """Structure along the lines a + j·b = c, for every slope and source.

    Attributes:
        sources: "network" (all inputs), "network held out" (held-out inputs only), "labels" (one-hot given labels, 0 on
            held-out inputs) and "kernel ridge" (on those labels), as far as available.
        slopes: the slopes j = 1 … n − 1, between positions of the group. Shape (slope).
        share: share of the energy left by row and column effects that the means over the lines of a slope explain;
            all 0 if no energy is left. Shape (source, slope).
        z: z-score of the share against the shares of all other slopes; NaN if those do not vary or are fewer than two.
            Shape (source, slope).
        true_slope: the slope of the task's own operation (1, or n − 1 for subtraction); 0 if it is not known. Only the
            figure uses it.
        note: which source is missing and why, and whether shares on held-out inputs are not comparable across slopes;
            or "".
    """

    sources: tuple[str, ...]
    slopes: Int[Tensor, " slope"]
    share: Float[Tensor, "source slope"]
    z: Float[Tensor, "source slope"]
    true_slope: int
    note: str

    @property
    def best(self) -> dict[str, int]:
        """The slope with the largest share, for each source with any structure."""
        strongest = self.slopes[self.share.argmax(1)].tolist()
        return {
            source: slope
            for source, slope, share in zip(self.sources, strongest, self.share, strict=True)
            if float(share.max()) > 0
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per source and slope: slope, source, share, z."""
        n = len(self.slopes)
        return pd.DataFrame(
            {
                "slope": np.tile(self.slopes.numpy(), len(self.sources)),
                "source": np.repeat(self.sources, n),
                "share": self.share.numpy().ravel(),
                "z": self.z.numpy().ravel(),
            }
        )

    def plot(self) -> go.Figure:
        """Return the shares against the slope; hovering shows a value, the legend each source's best slope and z."""
        frame = self.to_frame().rename(columns={"slope": "x", "source": "series", "share": "value"})
        best = self.best
        styles = {}
        for source, z in zip(self.sources, self.z, strict=True):
            style = STYLES[source]
            found = f"best j = {best[source]}, z = {float(z[best[source] - 1]):.1f}" if source in best else "nothing"
            styles[source] = dataclasses.replace(style, title=f"{style.title}: {found}")
        operation = f" (the task's own: {self.true_slope})" if self.true_slope else ""
        figure = lines(
            frame,
            x_title=f"slope j of the lines a + j·b, in positions of the group{operation}",
            y_title="share of the non-additive energy",
            styles=styles,
            markers=len(self.slopes) <= 130,
        )
        return figure.update_layout(legend={"orientation": "v"}, height=460, margin={"t": 40 + 22 * len(self.sources)})


@dataclasses.dataclass(frozen=True)
class OperationScan(Analysis):
    """Measure, for every slope j, how much of the logits is a function of a + j·b, without knowing the operation.

    The logits, less each cell's mean over classes and less row and column effects, are averaged over the lines
    a + j·b = c of positions in the group. Addition and multiplication have slope 1, subtraction −1. If n is not prime,
    slopes that share a factor with it have fewer modes off the axes, and therefore smaller shares.

    Structure on all inputs may come from the training labels; the controls are the labels' own one-hot grid and kernel
    ridge on them. Structure on held-out inputs only (row and column effects fitted there too, no training cell used)
    comes from the network. With m cells on a line on average, noise alone explains 1/m of the energy, so shares on
    held-out cells start higher than on the whole grid. The other slopes are the null and contain the same offset: z
    measures against them.
    """

    name: ClassVar[str] = "operation_scan"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "test_inputs", "given_labels"})
    cites: ClassVar[str] = "mechmem"

    def __call__(self, subject: Subject) -> OperationScanResult:
        """Return the shares.

        Raises:
            MissingNeedError: the subject lacks something, or its group has fewer than two elements.
        """
        self.require(subject)
        task, rows = subject.task, grid_rows(subject.task)
        n = len(rows)
        if n < 2:
            raise MissingNeedError(f"{self.name!r} needs a group of at least two elements")
        logits = all_logits(subject)
        shares = {
            "network": _on_grid(logit_energy(subject, centred=True), float(logit_energy(subject, centred=False).sum())),
            "network held out": _held_out(subject, logits),
        }
        notes = _uneven(occupied_lines(_held_out_cells(subject, n))[1:])
        tables: dict[str, Callable[[Task], Tensor]] = {"labels": label_grid, "kernel ridge": kernel_ridge}
        for name, build in tables.items():
            try:
                table = build(task)
            except MechmemError as error:
                notes.append(str(error))
                continue
            energy = grid_energy(table, rows, centred=True)
            shares[name] = _on_grid(energy, float(energy.sum()))
        share = torch.stack(list(shares.values()))[:, 1:]
        return OperationScanResult(
            sources=tuple(shares),
            slopes=torch.arange(1, n),
            share=share,
            z=torch.from_numpy(np.stack([leave_one_out_z(each.numpy()) for each in share])),
            true_slope={"add": 1, "multiply": 1, "subtract": n - 1}.get(task.operation or "", 0),
            note="; ".join(notes),
        )


def _on_grid(energy: Float[Tensor, "n half"], total: float) -> Float[Tensor, " slope"]:
    """Shares on the whole grid; all 0 if row and column effects leave nothing."""
    shares = energy_on_lines(energy)
    return shares if float(energy[1:, 1:].sum()) > NEGLIGIBLE * total else torch.zeros_like(shares)


def _held_out(subject: Subject, logits: Float[Tensor, "example class"]) -> Float[Tensor, " slope"]:
    """Shares on held-out cells of the grid, with row and column effects fitted on them alone."""
    task = subject.task
    n = len(grid_rows(task))
    cells = grid_cells(subject, task.test_ids)
    inside = (cells >= 0).all(1)
    place, found = cells[inside], logits[task.rows(task.test_ids[inside])]
    residual = additive_residual(found, place, n)
    energy = sum(float(part.square().sum()) for part in residual.split(4096))
    if energy <= NEGLIGIBLE * sum(float(part.double().square().sum()) for part in found.split(4096)):
        return torch.zeros(n, dtype=torch.float64)
    del found

    def tables():
        for block in residual.split(max(1, 2**22 // (n * n)), 1):
            grid = torch.zeros(block.shape[1], n, n, dtype=torch.float64)
            grid[:, place[:, 0], place[:, 1]] = block.T
            yield grid

    return share_on_lines(tables(), _held_out_cells(subject, n))


def _held_out_cells(subject: Subject, n: int) -> Bool[Tensor, "n n"]:
    """Mark the cells of the grid that are held out."""
    cells = grid_cells(subject, subject.task.test_ids)
    a, b = cells[(cells >= 0).all(1)].unbind(1)
    present = torch.zeros(n, n, dtype=torch.bool)
    present[a, b] = True
    return present


def _uneven(lines: Int[Tensor, " slope"]) -> list[str]:
    """Say if the split favours some slopes: with whole answers held out, the operation's lines are few and full."""
    fewest, most = int(lines.min()), int(lines.max())
    if 2 * fewest >= most:
        return []
    return [
        f"held-out inputs lie on {fewest} lines of slope {int(lines.argmin()) + 1} and on up to {most} of another "
        "slope, so the share of noise differs between slopes: z on held-out inputs is not meaningful"
    ]
