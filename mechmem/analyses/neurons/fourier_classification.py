"""Classification of neurons into those that compute the operation by a wave and the rest."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.config import check_fraction, check_number, check_whole
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.math.fourier import wrap_angle
from mechmem.math.fourier_neurons import (
    CLASSES,
    GENERALIZING,
    MIXED,
    PER_VECTOR,
    V_SIGN,
    FourierFeatures,
    FourierNull,
    NullSettings,
    alignment_error,
    fourier_features,
    fourier_null,
    neuron_classes,
)
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.weights import neuron_vectors
from mechmem.plotting.bars import histogram
from mechmem.plotting.layout import counts, side_by_side
from mechmem.plotting.spectra import Angles, angle_scatter
from mechmem.plotting.style import FAINT, INK, SplitStyle
from mechmem.tasks.grid import cyclic_group

if TYPE_CHECKING:
    import plotly.graph_objects as go

STYLES = {
    "generalizing": SplitStyle("generalizing", "#009E73", "circle", "solid"),
    "mixed": SplitStyle("mixed", "#56B4E9", "cross", "dash"),
    "memorizing": SplitStyle("memorizing", "#D55E00", "diamond", "dashdot"),
    "outside": SplitStyle("outside the group", "#CC79A7", "square", "dot"),
    "dead": SplitStyle("dead", "#8c8c8c", "x", "longdash"),
}
"""Look of each class, in the order of `CLASSES`."""
DRAWN_NEURONS = 2048


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FourierClassificationResult(Result):
    """Class and Fourier measures of every neuron of a layer, with the chance level of the rule.

    Attributes:
        features: the measures, see `FourierFeatures`.
        classes: position of each neuron's class in `CLASSES`. Shape (neuron).
        alignment: φ_u ± φ_v − φ_w in [−π, π), keyed by the operation with that sign; NaN if a vector has no phase.
            Empty if the layer lacks a vector. Shape (neuron) each.
        operation: the operation whose alignment decides, or "" if there is none.
        point: hook point of the neurons ("" if the roles name none).
        frequencies: number of frequencies of the group.
        false_positive_rate: α, the accepted rate of random neurons above the threshold.
        share_threshold: key-frequency share above which a frequency is common to a neuron's vectors.
        max_alignment_error: largest |alignment error| in radians that counts as aligned.
        null: the random neurons behind the threshold, and the false-positive rates measured on an independent draw.
    """

    features: FourierFeatures
    classes: Int[Tensor, " neuron"]
    alignment: dict[str, Float[Tensor, " neuron"]]
    operation: str
    point: str
    frequencies: int
    false_positive_rate: float
    share_threshold: float
    max_alignment_error: float
    null: FourierNull

    @property
    def labels(self) -> np.ndarray:
        """Each neuron's class by name."""
        return np.array(CLASSES, dtype=object)[self.classes.numpy()]

    def counts(self) -> pd.DataFrame:
        """Return one row per class: class, neurons, share of the layer."""
        found = np.bincount(self.classes.numpy(), minlength=len(CLASSES))
        return pd.DataFrame({"class": CLASSES, "neurons": found, "share": found / max(len(self.classes), 1)})

    def coverage(self) -> pd.DataFrame:
        """Return one row per frequency: frequency, generalizing, mixed (numbers of neurons with it as key)."""
        columns = {"frequency": np.arange(1, self.frequencies + 1)}
        for kind in (GENERALIZING, MIXED):
            keys = self.features.key[self.classes == kind].numpy()
            columns[CLASSES[kind]] = np.bincount(keys, minlength=self.frequencies + 1)[1:]
        return pd.DataFrame(columns)

    @property
    def covered(self) -> float:
        """Share of the frequencies that at least one generalizing neuron has as its key."""
        return float((self.coverage()["generalizing"].to_numpy() > 0).mean())

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron.

        Columns: neuron, class, key_frequency (missing where there is none), share, alignment_OPERATION in radians,
        ipr_one_sided and ipr_two_sided (means over the vectors), and for each vector x of u, v, w: key_frequency_x,
        amplitude_x, phase_x, ipr_one_sided_x, ipr_two_sided_x, sparsity_x, periodicity_x, gini_x, norm_x.
        """
        found = self.features
        columns = {"neuron": np.arange(len(self.classes)), "class": self.labels, "key_frequency": _or_none(found.key)}
        columns["share"] = found.share.numpy()
        columns |= {f"alignment_{operation}": error.numpy() for operation, error in self.alignment.items()}
        columns |= {name: getattr(found, name).mean(0).numpy() for name in ("ipr_one_sided", "ipr_two_sided")}
        for row, vector in enumerate(found.names):
            columns[f"key_frequency_{vector}"] = _or_none(found.vector_key[row])
            columns |= {f"{name}_{vector}": getattr(found, name)[row].numpy() for name in PER_VECTOR}
        return pd.DataFrame(columns)

    def plot(self) -> go.Figure:
        """Return the phases beside those of random neurons, or the histograms where phases cannot be compared."""
        return self.plot_phases() if self.alignment else self.plot_histograms()

    def plot_phases(self) -> go.Figure:
        """Return φ_u ± φ_v against φ_w by class, beside as many random neurons.

        Raises:
            MissingNeedError: the layer lacks one of u, v, w.
        """
        if not self.alignment:
            raise MissingNeedError(f"phases are compared over u, v and w; this layer has only {self.features.names}")
        operation = self.operation or next(iter(self.alignment))
        sign, width = V_SIGN[operation], len(self.classes)
        chosen = np.linspace(0, width - 1, min(width, DRAWN_NEURONS)).round().astype(int)
        drawn = f"{len(chosen):,} of {width:,} neurons" if len(chosen) < width else f"{width:,} neurons"
        rate = "" if self.null.generalizing_rate is None else f": {self.null.generalizing_rate.value:.2%} generalizing"
        place = torch.from_numpy(chosen)
        shown = slice(0, len(chosen))
        share = float((self.classes == GENERALIZING).double().mean())
        panels = [
            _angles(
                f"this network: {share:.1%} generalizing",
                drawn,
                self.features.phase[:, place],
                self.classes[place],
                sign,
            ),
            _angles(
                f"random neurons{rate}", "Gaussian weights", self.null.phase[:, shown], self.null.classes[shown], sign
            ),
        ]
        panels[0] = dataclasses.replace(panels[0], label=chosen)
        title = f"phase of u {'plus' if sign > 0 else 'minus'} phase of v (rad)"
        band = self.max_alignment_error
        return angle_scatter(panels, STYLES, x_title="phase of w (rad)", y_title=title, band=band)

    def plot_histograms(self) -> go.Figure:
        """Return histograms of the key frequency's share and of the IPR, by class, beside as many random neurons."""
        measures = {
            "share of the energy at the key frequency": (self.features.share, self.null.share),
            "IPR (one-sided, mean over vectors)": (self.features.ipr_one_sided.mean(0), self.null.ipr),
        }
        figures = []
        for title, (values, null) in measures.items():
            present = {name: self.classes == kind for kind, name in enumerate(CLASSES) if (self.classes == kind).any()}
            series = {STYLES[name].title: values[rows].numpy() for name, rows in present.items()}
            series["random neurons"] = null[: len(values)].numpy()
            colors = {style.title: style.color for style in STYLES.values()} | {"random neurons": FAINT}
            figures.append(histogram(series, x_title=title, colors=colors))
        figure, x = side_by_side(figures), self.share_threshold
        line = {"color": INK, "width": 1, "dash": "dot"}
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, xref="x", yref="y domain", line=line)
        note = {"text": f" threshold {x:.3g}", "xanchor": "left", "yanchor": "top", "showarrow": False}
        return figure.add_annotation(x=x, y=1, xref="x", yref="y domain", **note)

    def plot_coverage(self) -> go.Figure:
        """Return the number of generalizing and mixed neurons at each key frequency."""
        frame = self.coverage()
        series = {name: frame[name].to_numpy() for name in ("generalizing", "mixed")}
        title = f"key frequency k ({self.covered:.0%} of {self.frequencies} have a generalizing neuron)"
        return counts(series, STYLES, x_title=title, y_title="neurons")


def _angles(title: str, note: str, phase: Tensor, classes: Tensor, sign: int) -> Angles:
    u, v, w = phase
    heading = f"{title}<br><span style='font-size:12px'>{note}</span>"
    y = wrap_angle(u + sign * v)
    return Angles(heading, w.numpy(), y.numpy(), classes.numpy(), np.arange(len(classes)))


def _or_none(frequency: Int[Tensor, " neuron"]) -> pd.api.extensions.ExtensionArray:
    values = frequency.numpy()
    return pd.arrays.IntegerArray(values, values == 0)


@dataclasses.dataclass(frozen=True)
class FourierClassification(Analysis):
    """Classify neurons into those that compute the operation by one wave and those that do not.

    The classes, tested in this order:

    - *dead*: one of the neuron's vectors is shorter than 1/1000 of the layer's root mean square length of that vector.
    - *outside*: at least 9/10 of the energy of every vector lies on symbols outside the group (0 under multiplication).
    - *generalizing*: one frequency is common to the vectors, and |φ_u + φ_v − φ_w| (φ_u − φ_v − φ_w for subtraction) at
      it is at most `max_alignment_error`. A frequency is common where its share of the vectors' energy, averaged
      over them, is above the 1 − α quantile of random neurons with Gaussian vectors over the same group.
    - *mixed*: a common frequency, but the phases are not aligned, or there is no operation or vector to align.
    - *memorizing*: the rest. It means only that no frequency is common, as in an untrained network.

    A share α of random neurons have a common frequency; their alignment error is uniform, so about α · error bound / π
    are called generalizing (more at the Nyquist frequency, where the error is 0 or π). Both rates are measured on a
    second, independent draw and are part of the result. Nothing is tuned on trained networks.

    Attributes:
        false_positive_rate: α, the accepted rate of random neurons with a common frequency.
        max_alignment_error: largest |alignment error| in radians that counts as aligned, at most π.
        point: which layer of neurons; by default the last.
        null_neurons: random neurons per draw, enough for at least ten above the threshold.
        seed: seed of the random neurons.
    """

    name: ClassVar[str] = "fourier_classification"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding", "role:readout"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group", "output_group", "slopes", "operation"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022; Doshi et al. 2024, arXiv 2310.13061"

    false_positive_rate: float = 0.01
    max_alignment_error: float = math.pi / 4
    point: str = ""
    null_neurons: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_fraction("false positive rate", self.false_positive_rate)
        check_number("alignment error", self.max_alignment_error, above=0)
        check_whole("null neurons", self.null_neurons, 1)
        check_whole("seed", self.seed, 0)
        if self.max_alignment_error > math.pi:
            raise ConfigError(f"alignment error must be at most π, got {self.max_alignment_error}")
        if self.false_positive_rate * self.null_neurons < 10:
            raise ConfigError(
                f"{self.null_neurons} null neurons at a false positive rate of {self.false_positive_rate} leave fewer "
                f"than 10 above the threshold"
            )

    def __call__(self, subject: Subject) -> FourierClassificationResult:
        """Return classes and measures.

        Raises:
            MissingNeedError: the subject lacks something, the layer has no vectors, or the group has one frequency.
            ScoreError: a weight is not finite.
        """
        self.require(subject)
        group = cyclic_group(subject.task)
        found = neuron_vectors(subject, self.point)
        if group.n_frequencies < 2:
            raise MissingNeedError(f"{self.name!r} needs a group of at least two frequencies, not of one")
        vectors = [full_precision(x.cpu()) for x in found.vectors]
        for name, x in zip(found.names, vectors, strict=True):
            if not torch.isfinite(x).all():
                raise ScoreError(f"neurons cannot be classified: {name} holds weights that are not finite")
        features = fourier_features(group, found.names, vectors)
        asked = ("multiply",) if group.multiplicative else ("add", "subtract")
        errors = {operation: alignment_error(features, operation) for operation in asked}
        alignment = {operation: error for operation, error in errors.items() if error is not None}
        operation = subject.task.operation if subject.task.operation in alignment else ""
        settings = NullSettings(
            group,
            subject.task.symbols,
            found.names,
            operation=operation,
            tied=found.names[:2] == ("u", "v") and torch.equal(*vectors[:2]),
            alpha=self.false_positive_rate,
            bound=self.max_alignment_error,
            neurons=self.null_neurons,
            seed=self.seed,
        )
        null = fourier_null(settings)
        threshold, bound = null.share_threshold, self.max_alignment_error
        return FourierClassificationResult(
            features=features,
            classes=neuron_classes(features, alignment.get(operation), threshold, bound),
            alignment=alignment,
            operation=operation,
            point=found.point,
            frequencies=group.n_frequencies,
            false_positive_rate=self.false_positive_rate,
            share_threshold=threshold,
            max_alignment_error=bound,
            null=null,
        )
