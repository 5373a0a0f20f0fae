"""Amplitude of each neuron's contribution to the logits, beside its periodicity."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.plugins import Analysis, named
from mechmem.core.results import Result
from mechmem.core.roles import read_role
from mechmem.core.stats import Estimate, bootstrap, rank_correlation
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.models.hooks.running import full_precision
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.activations import activations
from mechmem.models.reading.stores import Variance
from mechmem.plotting.lines import PALETTE
from mechmem.plotting.style import styled

LOW_IPR, HIGH_IPR = 0.1, 0.9
"""Bounds of the IPR classes that Doshi et al. compare: memorizing neurons below, generalizing neurons above."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class AmplificationResult(Result):
    """Amplitude and periodicity of every neuron that the readout reads.

    Attributes:
        amplitude: ‖w_m‖ · std(h_m), the norm of the neuron's variation in the logits, in logit units. Shape (neuron).
        norm: ‖w_m‖, the norm of the neuron's readout weights. Shape (neuron).
        std: population standard deviation of the activation at the readout's point over the training inputs; after
            BatchNorm, |γ_m| times that of the normalised activation. Shape (neuron).
        gamma: |γ_m|, BatchNorm's factor; NaN without BatchNorm. Shape (neuron).
        ipr: inverse participation ratio, mean over the layer's vectors. Shape (neuron).
        spearman: rank correlation of amplitude and IPR, with a bootstrap interval over neurons; None if either is the
            same for all neurons.
        point: the hook point that holds the neurons.
        note: where γ was found, or why there is none.
    """

    amplitude: Float[Tensor, " neuron"]
    norm: Float[Tensor, " neuron"]
    std: Float[Tensor, " neuron"]
    gamma: Float[Tensor, " neuron"]
    ipr: Float[Tensor, " neuron"]
    spearman: Estimate | None
    point: str
    note: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, ipr, amplitude, norm, std, gamma, and the means of its class of IPR.

        The classes are "low" (below .1), "high" (above .9) and "middle"; class_amplitude and class_gamma are means over
        all neurons of the row's class.
        """
        columns = {name: getattr(self, name).numpy() for name in ("ipr", "amplitude", "norm", "std", "gamma")}
        frame = pd.DataFrame({"neuron": range(len(self.ipr)), **columns})
        ipr = frame["ipr"].to_numpy()
        frame["ipr_class"] = np.select([ipr < LOW_IPR, ipr > HIGH_IPR], ["low", "high"], "middle")
        grouped = frame.groupby("ipr_class")
        for name in ("amplitude", "gamma"):
            frame[f"class_{name}"] = grouped[name].transform("mean")
        return frame

    def plot(self) -> go.Figure:
        """Return amplitude against IPR, one mark per neuron."""
        drawn = (self.amplitude > 0).numpy()
        silent = int((~drawn).sum())
        found = "constant" if self.spearman is None else f"{self.spearman.value:.2f}"
        if self.spearman is not None:
            found += f" [{self.spearman.low:.2f}, {self.spearman.high:.2f}]"
        figure = go.Figure()
        figure.add_scatter(
            x=self.ipr.numpy()[drawn],
            y=self.amplitude.numpy()[drawn],
            customdata=np.flatnonzero(drawn),
            mode="markers",
            marker={"size": 6, "color": PALETTE[0], "opacity": 0.6},
            name=f"neurons (rank correlation {found})" + (f"; {silent} of amplitude 0 not drawn" if silent else ""),
            hovertemplate="neuron %{customdata}: IPR %{x:.3f}, amplitude %{y:.3g}<extra></extra>",
        )
        styled(figure, 420)
        figure.update_layout(showlegend=True)
        figure.update_xaxes(title_text="inverse participation ratio", range=[-0.03, 1.03])
        figure.update_yaxes(
            title_text="amplitude ‖w‖ · std(h), logit units (log scale)", type="log", exponentformat="power"
        )
        return figure


@dataclasses.dataclass(frozen=True)
class Amplification(Analysis):
    """Compare the amplitude of each neuron's contribution to the logits with its periodicity.

    BatchNorm reportedly suppresses memorizing neurons: |γ| of .02–.03 for an IPR below .1, .03–.05 above .9 (Doshi
    et al. 2024). γ alone is not conclusive, since the readout can undo it: the amplitude at the logits is
    |γ| · ‖w‖ · std(normalised h) = ‖w‖ · std(h).
    """

    name: ClassVar[str] = "amplification"
    needs: ClassVar[frozenset[str]] = frozenset(
        {"pairs", "group", "role:input_embedding", "role:readout", "role:hidden"}
    )
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group"})
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"

    def __call__(self, subject: Subject) -> AmplificationResult:
        """Return the amplitudes.

        Raises:
            MissingNeedError: the subject lacks something, or its readout does not read the last neurons.
        """
        self.require(subject)
        assert subject.roles.readout is not None
        found = named("neuron_scores", "ipr")(subject)
        weights = full_precision(read_role(subject.roles, "readout", subject.model, "neurons", "classes").cpu())
        variance = activations(subject, found.point, reduce=Variance)[found.point]
        if tuple(variance.shape) != (len(weights),):
            raise MissingNeedError(
                f"{found.point!r} holds {tuple(variance.shape)} per example, but the readout reads ({len(weights)},)"
            )
        norm, std = weights.norm(dim=1).double(), variance.sqrt()
        amplitude, ipr = norm * std, found.values.double()
        gamma, note = _gamma(subject.model, len(norm))
        spearman = _spearman(amplitude.numpy(), ipr.numpy())
        return AmplificationResult(amplitude, norm, std, gamma, ipr, spearman, found.point, note)


def _gamma(model: nn.Module, width: int) -> tuple[Float[Tensor, " neuron"], str]:
    norm = model.last_norm if isinstance(model, HookedMLP) else None
    if norm is not None:
        return norm.weight.detach().double().abs().cpu(), "γ of the BatchNorm before the readout"
    why = "the network has no BatchNorm" if isinstance(model, HookedMLP) else "only mechmem's own networks declare it"
    return torch.full((width,), torch.nan, dtype=torch.float64), f"no γ: {why}"


def _spearman(one: Float[np.ndarray, " neuron"], other: Float[np.ndarray, " neuron"]) -> Estimate | None:
    """Rank correlation with its bootstrap interval; values that differ only by rounding count as equal."""
    if any(np.ptp(values) <= 1e-9 * np.abs(values).max(initial=0) for values in (one, other)):
        return None
    return bootstrap(rank_correlation, [one, other], seed=0)
