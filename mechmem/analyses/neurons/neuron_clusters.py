"""Clusters of hidden neurons by the frequency that explains their activation on the grid of inputs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_fraction, check_whole
from mechmem.core.plugins import Analysis
from mechmem.core.randomness import generator
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.math.filtration import GridFrequencies
from mechmem.models.reading.grid import grid_frequencies
from mechmem.models.reading.weights import neuron_point
from mechmem.plotting.bars import histogram
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.style import FAINT, INK
from mechmem.tasks.grid import grid_rows

if TYPE_CHECKING:
    import plotly.graph_objects as go

DRAWN_NEURONS = 512
"""Most neurons drawn, since a screen resolves no more columns; a wider layer is drawn as an evenly spaced sample."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronClustersResult(Result):
    """Share of each neuron's variance over the grid of inputs that each frequency explains.

    Attributes:
        explained: share of the neuron's variance that the waves of frequency 1 … n carry: cos and sin of ka and of kb,
            and their four products; 0 for a constant neuron. Shape (freq, neuron), neurons in the network's order.
        variance: each neuron's variance over the grid, in squared units of the activation. Shape (neuron).
        random: the same shares for random neurons max(0, u_a + v_b), u and v Gaussian. Shape (freq, random).
        threshold: share from which a neuron belongs to its key frequency's cluster.
        point: hook point of the neurons.
        n_outside: cells of the task outside the grid of the group, which are not counted.
    """

    explained: Float[Tensor, "freq neuron"]
    variance: Float[Tensor, " neuron"]
    random: Float[Tensor, "freq random"]
    threshold: float
    point: str
    n_outside: int

    @property
    def key(self) -> Int[Tensor, " neuron"]:
        """The frequency that explains most of each neuron's variance, numbered from 1; 0 for a constant neuron."""
        return _key(self.explained)

    @property
    def share(self) -> Float[Tensor, " neuron"]:
        """Share of each neuron's variance that its key frequency explains."""
        return self.explained.amax(0)

    @property
    def cluster(self) -> Int[Tensor, " neuron"]:
        """Each neuron's key frequency if it explains at least `threshold`, else 0."""
        return self.key.where(self.share >= self.threshold, 0)

    @property
    def clustered(self) -> float:
        """Share of the neurons that belong to a cluster."""
        return float((self.cluster > 0).double().mean())

    @property
    def random_clustered(self) -> float:
        """The same of random neurons."""
        return float((self.random.amax(0) >= self.threshold).double().mean())

    def clusters(self) -> pd.DataFrame:
        """Return one row per cluster, the rest last: frequency (0 for the rest), neurons, share, mean_explained.

        `share` is of all neurons, `mean_explained` the mean share of variance that the key frequency explains.
        """
        cluster, share = self.cluster.numpy(), self.share.numpy()
        found = np.unique(cluster[cluster > 0])
        rows = []
        for k in (*found.tolist(), 0):
            chosen = share[cluster == k]
            mean = float(chosen.mean()) if len(chosen) else np.nan
            row = {"frequency": k, "neurons": len(chosen), "share": len(chosen) / len(share), "mean_explained": mean}
            rows.append(row)
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, key_frequency (missing where there is none), explained, cluster, variance.

        `explained` is the share of the variance at the key frequency, `cluster` the key frequency if that share reaches
        the threshold, else 0.
        """
        key = self.key.numpy()
        columns = {"neuron": np.arange(len(key)), "key_frequency": pd.arrays.IntegerArray(key, key == 0)}
        columns |= {"explained": self.share.numpy(), "cluster": self.cluster.numpy(), "variance": self.variance.numpy()}
        return pd.DataFrame(columns)

    def plot(self) -> go.Figure:
        """Return neuron × frequency heatmaps of the explained variance, sorted by cluster, beside random neurons."""
        count = len(self.clusters()) - 1
        found = f"{self.clustered:.1%} of {len(self.variance):,} neurons ≥ {self.threshold:.0%}, {count} clusters"
        null = f"{self.random_clustered:.1%} of {self.random.shape[1]:,} neurons ≥ {self.threshold:.0%}"
        return heatmaps(
            [
                _panel("this network", found, self.explained, self.threshold),
                _panel("random ReLU neurons", null, self.random, self.threshold),
            ],
            x_title="neuron, by cluster; the rest last",
            y_title="frequency k",
            z_title="share of the neuron's variance",
            hover="neuron at position %{x}<br>frequency %{y}<br>explained %{z:.3f}<extra></extra>",
        )

    def plot_histogram(self) -> go.Figure:
        """Return the distribution of the key frequency's share over neurons, beside that of random neurons."""
        series = {"this network": self.share.numpy(), "random ReLU neurons": self.random.amax(0).numpy()}
        title = "share of the neuron's variance explained by its key frequency"
        figure = histogram(series, x_title=title, colors={"random ReLU neurons": FAINT})
        line = {"color": INK, "width": 1, "dash": "dot"}
        x = self.threshold
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, xref="x", yref="y domain", line=line)
        note = {"text": f"{x:.0%} ", "xanchor": "right", "yanchor": "top", "showarrow": False}
        figure.add_annotation(x=x, y=1, xref="x", yref="y domain", **note)
        return figure.update_xaxes(range=[0, 1.02])


def _key(explained: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    return (explained.argmax(0) + 1).where(explained.sum(0) > 0, 0)


def _panel(title: str, found: str, explained: Float[Tensor, "freq neuron"], threshold: float) -> Panel:
    values, key = explained.numpy(), _key(explained).numpy()
    width = values.shape[1]
    place = np.linspace(0, width - 1, min(width, DRAWN_NEURONS)).round().astype(int)
    # Strongest first within a cluster, so that an even sample looks the same.
    order = np.lexsort((-values.max(0), key, values.max(0) < threshold))
    if width > DRAWN_NEURONS:
        found += f"<br>drawn: {DRAWN_NEURONS} of them, evenly spaced"
    heading = f"{title}<br><span style='font-size:12px'>{found}</span>"
    return Panel(heading, values[:, order[place]], place, np.arange(1, len(values) + 1))


@dataclasses.dataclass(frozen=True)
class NeuronClusters(Analysis):
    """Cluster hidden neurons by the frequency that explains most of their variance.

    A neuron is a function on the grid of pairs (a, b), read at the answering position of a sequence model. Its variance
    over the grid is decomposed into waves; frequency k explains the share of the eight functions cos ka, sin ka, cos
    kb, sin kb and the four products of one in a with one in b (with the constant, which has no variance, the nine of a
    polynomial of degree two). A neuron belongs to the cluster of its strongest frequency if that explains at least
    `threshold`. The 85 % and the functions are the paper's; unlike in its code, all frequencies up to (p − 1) / 2 can
    win. In the paper 433 of 512 neurons (84.6 %) reach the threshold, in five clusters.

    The control is random neurons max(0, u_a + v_b) with Gaussian u and v, which show how much one frequency explains
    by chance of a neuron that adds its inputs.

    Attributes:
        threshold: share of the variance from which a neuron belongs to a cluster.
        point: which layer of neurons; by default the last.
        random_neurons: number of random neurons.
        seed: seed of the random neurons.
    """

    name: ClassVar[str] = "neuron_clusters"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:hidden"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "slopes", "test_inputs"})
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    threshold: float = 0.85
    point: str = ""
    random_neurons: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction("threshold", self.threshold)
        check_whole("random neurons", self.random_neurons, 1)
        check_whole("seed", self.seed, 0)

    def __call__(self, subject: Subject) -> NeuronClustersResult:
        """Return the shares.

        Raises:
            MissingNeedError: the subject lacks something, the group is not cyclic or has only one frequency, or a pair
                of its elements is missing.
            ActivationError: the point does not hold (example, neuron) or (example, position, neuron).
        """
        self.require(subject)
        n, point = len(grid_rows(subject.task)), neuron_point(subject, self.point)
        if n // 2 < 2:
            raise MissingNeedError(f"{self.name!r} needs a group of at least two frequencies, not {n // 2}")
        found = grid_frequencies(subject, point)
        return NeuronClustersResult(
            explained=found.explained(),
            variance=found.variance(),
            random=self._random(n),
            threshold=self.threshold,
            point=point,
            n_outside=len(subject.task.ids) - n**2,
        )

    def _random(self, n: int) -> Float[Tensor, "freq random"]:
        draw = generator(self.seed, "neuron_clusters")
        u, v = torch.randn(2, n, self.random_neurons, generator=draw)
        sums = GridFrequencies(n, self.random_neurons)
        for a in range(n):
            sums.add((u[a : a + 1, None] + v).relu(), a)
        return sums.explained()
