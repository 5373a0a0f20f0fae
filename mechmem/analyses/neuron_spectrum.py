"""Where in frequency each neuron's weights live."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.contracts import Subject
from mechmem.math.filtration import frequency_power, key_frequency
from mechmem.models.forward import full_precision
from mechmem.models.initial import initial_model
from mechmem.models.weights import neuron_weights
from mechmem.plotting.grids import Panel, heatmaps
from mechmem.plugins import Analysis
from mechmem.results import Result
from mechmem.storage import record

if TYPE_CHECKING:
    import plotly.graph_objects as go

DRAWN_NEURONS = 512
"""More columns cannot be told apart on a screen: a wider network is drawn as an even sample of its neurons."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronSpectrumResult(Result):
    """Share of each neuron's energy at each frequency, now and at initialisation.

    Attributes:
        share: energy of the neuron's input and output vectors at frequency 1 … n, as a share of all frequencies (the
            constant does not count; 0 for a neuron without any). Shape (freq, neuron), neurons in the network's order.
        initial: the same at initialisation, or None. Shape (freq, neuron).
        initial_note: why there is no initialisation to show, or "".
    """

    share: Float[Tensor, "freq neuron"]
    initial: Float[Tensor, "freq neuron"] | None
    initial_note: str = ""

    @property
    def key(self) -> Int[Tensor, " neuron"]:
        """Each neuron's strongest frequency, numbered from 1; 0 for a neuron without any."""
        return _key(self.share)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: key frequency and its share, now and at initialisation (NaN where not known)."""
        frame = pd.DataFrame({"neuron": range(self.share.shape[1]), "key_frequency": self.key.numpy()})
        frame["key_share"] = self.share.amax(0).numpy()
        frame["initial_key_frequency"] = np.nan if self.initial is None else _key(self.initial).numpy()
        frame["initial_key_share"] = np.nan if self.initial is None else self.initial.amax(0).numpy()
        return frame

    def plot(self) -> go.Figure:
        """Return neuron × frequency heatmaps, each sorted by its own key frequencies."""
        panels = [_panel("this network", self.share)]
        if self.initial is not None:
            panels.append(_panel("at initialisation", self.initial))
        return heatmaps(
            panels,
            x_title="neuron, sorted by key frequency",
            y_title="frequency k",
            z_title="share of the neuron's energy",
            hover="neuron at place %{x}<br>frequency %{y}<br>share %{z:.3f}<extra></extra>",
        )


def _key(share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
    return key_frequency(share).where(share.sum(0) > 0, 0)


def _panel(title: str, share: Float[Tensor, "freq neuron"]) -> Panel:
    values, key = share.numpy(), _key(share).numpy()
    width = share.shape[1]
    place = np.linspace(0, width - 1, min(width, DRAWN_NEURONS)).round().astype(int)
    found = f"mean share of the key frequency: {values.max(0).mean():.2f}"
    if width > DRAWN_NEURONS:
        found += f"<br>drawn: {DRAWN_NEURONS} of {width} neurons, evenly spaced"
    # The strongest first within a frequency, so that an even sample keeps the picture.
    order = np.lexsort((-values.max(0), key))
    z = values[:, order[place]]
    return Panel(f"{title}<br><span style='font-size:11px'>{found}</span>", z, place, np.arange(1, len(values) + 1))


@dataclasses.dataclass(frozen=True)
class NeuronSpectrum(Analysis):
    """Measure how each neuron's energy is spread over the frequencies of the group.

    A network that computes the rule by Fourier features puts each neuron on one frequency. At initialisation a neuron's
    strongest frequency stands out by chance, so the same network before training stands beside it.
    """

    name: ClassVar[str] = "neuron_spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes", "checkpoints"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    def __call__(self, subject: Subject) -> NeuronSpectrumResult:
        """Return the shares."""
        self.require(subject)
        before, note = initial_model(subject)
        initial = None if before is None else _share(subject, before)
        return NeuronSpectrumResult(_share(subject, subject.model), initial, note)


def _share(subject: Subject, model: nn.Module) -> Float[Tensor, "freq neuron"]:
    group, embedding, readout = neuron_weights(subject, model)
    return frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
