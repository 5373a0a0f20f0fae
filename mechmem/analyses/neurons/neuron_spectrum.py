"""Fourier spectrum of each neuron's weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.math.filtration import frequency_power
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.twins import twin_subject
from mechmem.models.reading.weights import neuron_weights
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.spectra import numbered

if TYPE_CHECKING:
    import plotly.graph_objects as go

DRAWN_NEURONS = 512
"""Most neurons drawn, since a screen resolves no more columns; a wider network is drawn as an evenly spaced sample."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronSpectrumResult(Result):
    """Share of each neuron's energy at each frequency, now and at initialisation.

    Attributes:
        share: energy of the neuron's input and output vectors at frequency 1 … n, as a share of all frequencies without
            the constant; 0 for a neuron without energy. Shape (freq, neuron), neurons in the network's order.
        multiplicity: number of coefficients of each frequency. Shape (freq).
        labels: what the group calls its frequencies: "1", "2", …, or names of representations.
        initial: the shares at initialisation, or None. Shape (freq, neuron).
        initial_note: why `initial` is None, or "".
    """

    share: Float[Tensor, "freq neuron"]
    multiplicity: Int[Tensor, " freq"]
    labels: tuple[str, ...]
    initial: Float[Tensor, "freq neuron"] | None
    initial_note: str = ""

    @property
    def key(self) -> Int[Tensor, " neuron"]:
        """Each neuron's frequency with the most energy per coefficient, numbered from 1; 0 without energy."""
        return self._key(self.share)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: key frequency and its share, now and at initialisation (NaN where not known)."""
        frame = pd.DataFrame({"neuron": range(self.share.shape[1]), "key_frequency": self.key.numpy()})
        frame["key_share"] = _at(self.share, self.key).numpy()
        before = None if self.initial is None else self._key(self.initial)
        frame["initial_key_frequency"] = np.nan if before is None else before.numpy()
        known = None if self.initial is None or before is None else _at(self.initial, before)
        frame["initial_key_share"] = np.nan if known is None else known.numpy()
        return frame

    def plot(self) -> go.Figure:
        """Return neuron × frequency heatmaps, each sorted by its own key frequencies."""
        panels = [self._panel("this network", self.share)]
        if self.initial is not None:
            panels.append(self._panel("at initialisation", self.initial))
        return heatmaps(
            panels,
            x_title="neuron, sorted by key frequency",
            y_title="frequency k" if self._numbered else "representation",
            z_title="share of the neuron's energy",
            hover="neuron at position %{x}<br>frequency %{y}<br>share %{z:.3f}<extra></extra>",
        )

    @property
    def _numbered(self) -> bool:
        return numbered(self.labels)

    def _key(self, share: Float[Tensor, "freq neuron"]) -> Int[Tensor, " neuron"]:
        each = share / rearrange(self.multiplicity, "freq -> freq 1")
        return (each.argmax(0) + 1).where(share.sum(0) > 0, 0)

    def _panel(self, title: str, share: Float[Tensor, "freq neuron"]) -> Panel:
        key = self._key(share)
        values, strength = share.numpy(), _at(share, key).numpy()
        width = share.shape[1]
        place = np.linspace(0, width - 1, min(width, DRAWN_NEURONS)).round().astype(int)
        found = f"mean share of the key frequency: {strength.mean():.2f}"
        if width > DRAWN_NEURONS:
            found += f"<br>drawn: {DRAWN_NEURONS} of {width} neurons, evenly spaced"
        # Strongest first within a frequency, so that an even sample looks the same.
        order = np.lexsort((-strength, key.numpy()))
        y = np.arange(1, len(values) + 1) if self._numbered else np.array(self.labels)
        return Panel(f"{title}<br><span style='font-size:12px'>{found}</span>", values[:, order[place]], place, y)


def _at(share: Float[Tensor, "freq neuron"], key: Int[Tensor, " neuron"]) -> Float[Tensor, " neuron"]:
    return share.gather(0, rearrange(key.clamp(min=1) - 1, "neuron -> 1 neuron"))[0]


@dataclasses.dataclass(frozen=True)
class NeuronSpectrum(Analysis):
    """Measure how each neuron's energy is spread over the frequencies of the group.

    A network that computes the rule by Fourier features puts each neuron on one frequency. At initialisation a neuron's
    strongest frequency stands out by chance, so the result includes the same network before training.
    """

    name: ClassVar[str] = "neuron_spectrum"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes", "checkpoints"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022"

    def __call__(self, subject: Subject) -> NeuronSpectrumResult:
        """Return the shares."""
        self.require(subject)
        before, note = twin_subject(subject, "untrained")
        initial = None if before is None else _share(subject, before.model)
        group = neuron_weights(subject)[0]
        share, labels = _share(subject, subject.model), group.labels
        return NeuronSpectrumResult(share, group.multiplicity[1:], labels, initial, note)


def _share(subject: Subject, model: nn.Module) -> Float[Tensor, "freq neuron"]:
    group, embedding, readout = neuron_weights(subject, model)
    return frequency_power(group, full_precision(embedding.cpu()), full_precision(readout.cpu()))
