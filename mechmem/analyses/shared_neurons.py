"""Result of the analysis `shared_structure`: clusters of neurons, what they share, and the same of twins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.plotting.bars import histogram
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.style import FAINT, SPLIT_STYLES
from mechmem.scorecard.controls import NETWORK_CONTROLS
from mechmem.scorecard.rows import CONTROL_TITLES

if TYPE_CHECKING:
    import plotly.graph_objects as go

TRAINED, NOISE_ONLY = "trained", "noise_only"
NETWORKS = (TRAINED, *NETWORK_CONTROLS)
"""The network and its twins, in the order of a result's first axis."""

DRAWN_NEURONS = 512
"""Most neurons drawn, since a screen resolves no more columns; a wider layer is drawn as an evenly spaced sample."""

FAINTEST = 0.01
"""Ranks whose eigenvalues have less than this share of the energy in half of the clusters are not drawn."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class SharedStructureResult(Result):
    """What a layer's neurons share with others of their cluster, beside the network's twins.

    Attributes:
        point: hook point of the neurons, "" if the roles name none.
        cluster: each neuron's cluster, numbered from 0, the largest first; −1 for a dead neuron, one of whose vectors
            is constant. Shape (neuron).
        weight: weight of each neuron in its cluster's moments; 0 for a dead neuron. Shape (neuron).
        energy: energy that each neuron shares with the others of its cluster, as the score `shared_energy` has it; NaN
            for a dead neuron and a missing twin. The neurons of a twin are in clusters of its own, as many. Shape
            (network, neuron): the network, and its untrained, one-step and noise-only twins.
        spectra: by role ("u", "v", "w", …), the eigenvalues of each cluster's weighted mean of x xᵀ in descending
            order, x being a neuron's vector without its mean, of length 1; they sum to 1.
        counts: the numbers of clusters that were tried.
        observed: cross-role energy, the energy of a held-out neuron's vector in the cluster that its other vectors
            choose, less that of random directions; NaN where it was not measured: twins have as many clusters as the
            network. Shape (network, count, fold).
        permuted: the same of another held-out neuron's vector. Shape (network, count, fold).
        affinity: Σ over roles of (x_m · x_n)⁴ for every two drawn neurons, by cluster and within it by falling shared
            energy, 0 on the diagonal; of the network, and of the last of its twins that there is.
        strength: the shrinkage λ of the filters.
        note: what is missing and why, or "".
    """

    point: str
    cluster: Int[Tensor, " neuron"]
    weight: Float[Tensor, " neuron"]
    energy: Float[Tensor, "network neuron"]
    spectra: Mapping[str, Float[Tensor, "cluster _"]]
    counts: tuple[int, ...]
    observed: Float[Tensor, "network count fold"]
    permuted: Float[Tensor, "network count fold"]
    affinity: Mapping[str, Float[Tensor, "drawn drawn"]]
    strength: float
    note: str = ""

    @property
    def dead(self) -> int:
        """Number of dead neurons, which are in no cluster."""
        return int((self.cluster < 0).sum())

    @property
    def count(self) -> int:
        """Number of clusters, given or chosen."""
        return len(next(iter(self.spectra.values())))

    @property
    def sizes(self) -> Int[Tensor, " cluster"]:
        """Number of neurons in each cluster."""
        return torch.bincount(self.cluster[self.cluster >= 0], minlength=self.count)

    @property
    def dimensions(self) -> Mapping[str, Float[Tensor, " cluster"]]:
        """By role the effective dimension of each cluster: the participation ratio (Σλ)² / Σλ² of its eigenvalues.

        It is d if the vectors fill d dimensions evenly, and at most the number of neurons; NaN for an empty cluster.
        It counts also what each vector has of its own, unlike a number of shared directions.
        """
        return {role: values.sum(1) ** 2 / values.square().sum(1) for role, values in self.spectra.items()}

    @property
    def random_dimensions(self) -> Mapping[str, Float[Tensor, " cluster"]]:
        """By role the effective dimension that random directions have with the weights of each cluster."""
        live = self.cluster >= 0
        sums = torch.zeros(2, self.count, dtype=torch.float64)
        sums.index_add_(1, self.cluster[live], torch.stack([self.weight, self.weight.square()])[:, live].double())
        # Σλ² is the mean squared cosine over all pairs, 1 for a vector with itself and 1 / (n − 1) between others.
        same = sums[1] / sums[0].square()
        return {role: 1 / (same + (1 - same) / (values.shape[1] - 1)) for role, values in self.spectra.items()}

    @property
    def excess(self) -> Float[Tensor, " network"]:
        """Cross-role energy less its permuted null, mean over folds, with `count` clusters; NaN for a missing twin.

        Without a noise-only twin the number means nothing by itself (see `sentence`).
        """
        return self._chosen.mean(1)

    @property
    def _chosen(self) -> Float[Tensor, "network fold"]:
        return (self.observed - self.permuted)[:, self.counts.index(self.count)]

    @property
    def sentence(self) -> str:
        """What the excess means, in words.

        The network shares more than a twin if the least of its folds is above the largest of the twin's. The noise-only
        twin is needed for a statement, and the others too may share more: in a transformer, activations of neurons that
        read one narrow stream have much in common before any training.
        """
        # Adding 0 turns −0 into 0.
        found = dict(zip(NETWORKS, (self.excess.numpy().round(3) + 0.0).tolist(), strict=True))
        twins = [f"{CONTROL_TITLES[name]} {found[name]:.3f}" for name in NETWORK_CONTROLS if np.isfinite(found[name])]
        figures = (
            f"In the cluster that its other vectors choose, a held-out neuron's vector has {found[TRAINED]:.3f} more "
            f"of its energy than another neuron's ({self.count} clusters"
        )
        figures += f"; {', '.join(twins)})." if twins else ")."
        why = "neurons that memorize the same cell share directions too, without any rule"
        if np.isnan(found[NOISE_ONLY]):
            return f"{figures} Without a noise-only twin this number means nothing by itself: {why}."
        least = self._chosen[NETWORKS.index(TRAINED)].min()
        above = dict(zip(NETWORKS, (least > self._chosen.amax(1)).tolist(), strict=True))
        level = [CONTROL_TITLES[name] for name in NETWORK_CONTROLS if np.isfinite(found[name]) and not above[name]]
        if level:
            return (
                f"{figures} Not every fold is above all folds of the {' and the '.join(level)} twin: this does not "
                f"show that the neurons share more than random labels and the architecture bring about ({why})."
            )
        return (
            f"{figures} Every fold is above all folds of the twins: the neurons share more than random labels and the "
            f"architecture bring about. Which rule that is, and whether it is the right one, this does not tell."
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, cluster, weight, shared_energy, and a column `shared_energy_…` per twin.

        `cluster` is −1 for a dead neuron. A twin's neurons are those of the same number, in clusters of its own.
        """
        columns = {"neuron": np.arange(len(self.cluster)), "cluster": self.cluster.numpy()}
        columns |= {"weight": self.weight.numpy(), "shared_energy": self.energy[0].numpy()}
        twins = zip(NETWORK_CONTROLS, self.energy[1:], strict=True)
        return pd.DataFrame(columns | {f"shared_energy_{name}": values.numpy() for name, values in twins})

    def clusters(self) -> pd.DataFrame:
        """Return one row per cluster: cluster, neurons, share, mean_shared_energy, and two columns per role.

        `share` is of all neurons. `dimension_u` is the effective dimension of the vectors u, `random_dimension_u` that
        of as many random directions (see `dimensions`).
        """
        sizes, energy = self.sizes.numpy(), self.energy[0].numpy()
        found = [energy[self.cluster.numpy() == each] for each in range(self.count)]
        columns = {"cluster": np.arange(self.count), "neurons": sizes, "share": sizes / len(self.cluster)}
        columns["mean_shared_energy"] = np.array([each.mean() if len(each) else np.nan for each in found])
        for role in self.spectra:
            columns[f"dimension_{role}"] = self.dimensions[role].numpy()
            columns[f"random_dimension_{role}"] = self.random_dimensions[role].numpy()
        return pd.DataFrame(columns)

    def cross_role(self) -> pd.DataFrame:
        """Return one row per network, number of clusters and fold that was measured.

        Columns network ("trained", "untrained", "one_step", "noise_only"), clusters, chosen (whether the result has
        that many), fold, observed, permuted, excess.
        """
        rows = [
            {"network": NETWORKS[network], "clusters": self.counts[place], "chosen": self.counts[place] == self.count}
            | {"fold": fold, "observed": float(self.observed[network, place, fold])}
            | {"permuted": float(self.permuted[network, place, fold])}
            for network, place, fold in np.ndindex(*self.observed.shape)
            if not self.observed[network, place, fold].isnan()
        ]
        frame = pd.DataFrame(rows)
        return frame.assign(excess=frame["observed"] - frame["permuted"])

    def plot(self) -> go.Figure:
        """Return how much every two neurons have in common, in the order of their clusters, beside those of a twin.

        It is the fourth root of the mean over roles of cos⁴, cos being that of two neurons' vectors: 1 for copies.
        """
        # The fourth root, because all but the largest affinities would look like 0.
        drawn = {name: ((found / len(self.spectra)) ** 0.25).numpy() for name, found in self.affinity.items()}
        panels = [
            Panel(self._heading(name), found, np.arange(len(found)), np.arange(len(found)))
            for name, found in drawn.items()
        ]
        figure = heatmaps(
            panels,
            x_title="neuron, by cluster",
            y_title="neuron, by cluster",
            z_title="|cos|, mean over roles of 4th power",
            hover="neurons at positions %{x} and %{y}<br>|cos| %{z:.3f}<extra></extra>",
        )
        return figure.update_yaxes(autorange="reversed")

    def _heading(self, network: str) -> str:
        title = "this network" if network == TRAINED else f"{CONTROL_TITLES[network]} twin"
        live = int(self.energy[NETWORKS.index(network)].isfinite().sum())
        found = f"{live:,} neurons, {self.count} clusters"
        if live > DRAWN_NEURONS:
            found += f"<br>drawn: {DRAWN_NEURONS} of them, evenly spaced"
        return f"{title}<br><span style='font-size:12px'>{found}</span>"

    def plot_spectra(self) -> go.Figure:
        """Return the largest eigenvalues of each cluster's mean of x xᵀ, one panel per role."""
        most = max(int((values.quantile(0.5, 0) >= FAINTEST).sum()) for values in self.spectra.values())
        panels = []
        for role, values in self.spectra.items():
            here, random = (np.nanmedian(each[role].numpy()) for each in (self.dimensions, self.random_dimensions))
            found = f"median dimension {here:.1f}<br>of random vectors {random:.1f}"
            heading = f"{role}<br><span style='font-size:12px'>{found}</span>"
            shown = values[:, :most].numpy()
            panels.append(Panel(heading, shown, np.arange(1, shown.shape[1] + 1), np.arange(self.count)))
        figure = heatmaps(
            panels,
            x_title="rank of the eigenvalue",
            y_title="cluster, the largest first",
            z_title="share of the cluster's energy",
            hover="cluster %{y}<br>eigenvalue %{x}: %{z:.3f} of the energy<extra></extra>",
        )
        return figure.update_yaxes(autorange="reversed")

    def plot_histogram(self) -> go.Figure:
        """Return the distribution of the shared energy over neurons, beside those of the twins."""
        titles = {name: f"{CONTROL_TITLES[name]} twin" for name in NETWORK_CONTROLS} | {TRAINED: "this network"}
        known = [name for name, values in zip(NETWORKS, self.energy, strict=True) if values.isfinite().any()]
        series = {titles[name]: self.energy[NETWORKS.index(name)].numpy() for name in known}
        colors = {titles[name]: FAINT for name in ("untrained", "one_step")}
        colors[titles[NOISE_ONLY]] = SPLIT_STYLES["train_noisy"].color
        title = "energy shared with the other neurons of the cluster (share, less chance)"
        figure = histogram(series, x_title=title, colors=colors)
        # Twins are open, and the network is on top, so that it is seen where they overlap.
        figure.for_each_trace(lambda trace: trace.update(fill="none"), lambda trace: trace.name != titles[TRAINED])
        first, *others = figure.data  # pyright: ignore[reportGeneralTypeIssues]
        figure.data = (*others, first)
        return figure.update_layout(legend_traceorder="reversed")
