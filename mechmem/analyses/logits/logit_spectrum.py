"""Two-dimensional spectrum of the logits, before and after an extraction."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.models.reading.grid import logit_energy
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.scorecard.extractor import extractor

if TYPE_CHECKING:
    import plotly.graph_objects as go

FLOOR = 1e-5
"""Smallest share drawn; the rounding noise in a filtered network's modes would stretch the scale."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LogitSpectrumResult(Result):
    """Energy of the logits' modes over both operands, summed over classes.

    Attributes:
        before: energy of mode (k₁, k₂) in squared logit units, after subtracting each cell's mean over classes. A mode
            and its conjugate count together (separately in the columns 0 and n / 2, which list both); k₁ in the order
            of the DFT, k₂ from 0 to n // 2. Shape (n, half).
        after: the same after the surgery, or None. Shape (n, half).
        surgery: name of the surgery.
        after_note: why `after` is None, or "".
        sign: the rule's modes are (sign·k, k): 1 for addition and multiplication, −1 for subtraction, 0 if the
            operation is not known.
    """

    before: Float[Tensor, "n half"]
    after: Float[Tensor, "n half"] | None
    surgery: str
    after_note: str
    sign: int

    @property
    def additive(self) -> Bool[Tensor, "n half"]:
        """Modes (k, 0) and (0, k), which depend on one operand only."""
        mask = torch.zeros(self.before.shape, dtype=torch.bool)
        mask[0], mask[:, 0] = True, True
        return mask

    @property
    def on_rule(self) -> Bool[Tensor, "n half"]:
        """Modes (sign·k, k), k ≥ 1: those of a function of the answer."""
        n, half = self.before.shape
        mask = torch.zeros(n, half, dtype=torch.bool)
        if self.sign:
            k = torch.arange(1, half)
            mask[(self.sign * k) % n, k] = True
        return mask

    def to_frame(self) -> pd.DataFrame:
        """Return one row per mode: k1 (signed), k2, kind ("additive", "rule", "other"), before, after (NaN if none)."""
        n, half = self.before.shape
        kind = np.where(self.additive, "additive", np.where(self.on_rule, "rule", "other"))
        after = torch.full_like(self.before, torch.nan) if self.after is None else self.after
        return pd.DataFrame(
            {
                "k1": repeat(_signed(n), "n -> (n half)", half=half).numpy(),
                "k2": repeat(torch.arange(half), "half -> (n half)", n=n).numpy(),
                "kind": kind.ravel(),
                "before": rearrange(self.before, "n half -> (n half)").numpy(),
                "after": rearrange(after, "n half -> (n half)").numpy(),
            }
        )

    def plot(self) -> go.Figure:
        """Return heatmaps of the modes' shares of the non-additive energy; additive modes are left blank."""
        panels = [self._panel("the network's logits", self.before)]
        if self.after is not None:
            panels.append(self._panel(f"after {self.surgery}", self.after))
        return heatmaps(
            panels,
            x_title="frequency k₂ over b",
            y_title="frequency k₁ over a",
            z_title="share of non-additive energy",
            hover="mode (%{y}, %{x})<br>10^%{z:.2f} of the non-additive energy<extra></extra>",
            log=True,
        )

    def _panel(self, title: str, energy: Float[Tensor, "n half"]) -> Panel:
        rest = energy.masked_fill(self.additive, 0)
        share = rest / rest.sum().clamp_min(torch.finfo(rest.dtype).tiny)
        total = float(energy.sum()) or 1.0
        found = f"additive modes (blank): {1 - float(rest.sum()) / total:.0%} of all energy"
        if self.sign:
            found += f"<br>rule's diagonal: {float(share[self.on_rule].sum()):.0%} of the rest"
        z = share.clamp_min(FLOOR).log10().masked_fill(self.additive, torch.nan)
        order = torch.argsort(_signed(len(z)))
        k1, k2 = _signed(len(z))[order].numpy(), np.arange(z.shape[1])
        return Panel(f"{title}<br><span style='font-size:12px'>{found}</span>", z[order].numpy(), k2, k1)


def _signed(n: int) -> Int[Tensor, " n"]:
    """Frequencies in the order of the DFT, the upper half negative."""
    k = torch.arange(n)
    return torch.where(k > n // 2, k - n, k)


@dataclasses.dataclass(frozen=True)
class LogitSpectrum(Analysis):
    """Decompose the logits on the grid into modes (k₁, k₂) over both operands, before and after a surgery.

    A rule has its energy on the diagonal; memorized labels spread over the plane like noise. The spectrum covers
    training cells too, so a diagonal alone does not show that the network computes the rule on held-out inputs.

    Attributes:
        surgery: surgeries as in an extractor's name, e.g. "frequency+quadratic".
    """

    name: ClassVar[str] = "logit_spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group"})
    knows: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "input_group", "output_group", "slopes", "operation", "test_inputs"}
    )
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    surgery: str = "frequency+quadratic"

    def __post_init__(self) -> None:
        if extractor(self.surgery).readout.name != "logits":
            raise ConfigError(f"the spectrum is taken after surgeries, not after a readout: {self.surgery!r}")

    def __call__(self, subject: Subject) -> LogitSpectrumResult:
        """Return the energies."""
        self.require(subject)
        try:
            changed = subject
            for part in extractor(self.surgery).surgeries:
                changed = part(changed)
            after, note = _energy(changed), ""
        except MissingNeedError as error:
            after, note = None, str(error)
        operation = subject.task.operation
        sign = {"add": 1, "multiply": 1, "subtract": -1}.get(operation or "", 0)
        return LogitSpectrumResult(_energy(subject), after, self.surgery, note, sign)


def _energy(subject: Subject) -> Float[Tensor, "n half"]:
    return logit_energy(subject, centred=True)
