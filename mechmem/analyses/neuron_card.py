"""Card of one neuron: its waves, its class, its effect, and the cells it memorizes most."""

from __future__ import annotations

import dataclasses
import math
import operator
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.analyses.neurons.fourier_classification import FourierClassification
from mechmem.core.arguments import checked_but
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.stats import Estimate
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, NotLinearError, UnknownNameError
from mechmem.math.fourier import shares, varying_power
from mechmem.math.fourier_neurons import CLASSES, PER_VECTOR, FourierFeatures
from mechmem.models.hooks.running import full_precision
from mechmem.models.reading.activations import activations
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.models.reading.weights import neuron_vectors
from mechmem.neurons.removal import RaisedCells, RemovalEffect, raised_cells, removal_effects
from mechmem.plotting.neuron import Wave, neuron_page
from mechmem.tasks.grid import cyclic_group

if TYPE_CHECKING:
    import plotly.graph_objects as go

LISTED_CELLS = 100
"""Number of training cells on a card."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronCard(Result):
    """One neuron of one layer.

    Attributes:
        neuron: its number.
        width: number of neurons of the layer.
        point: hook point of the layer ("" if the roles name none).
        label: its class, see the analysis `fourier_classification`.
        features: its Fourier measures; the neuron axis has one entry.
        alignment: φ_u ± φ_v − φ_w in radians by operation, empty if it lacks a vector.
        share_threshold: key-frequency share above which a frequency is common to its vectors.
        false_positive_rate: accepted share of random neurons above that threshold.
        symbols: the symbol at each position of the group. Shape (place).
        values: its vectors in the group's order, in the weights' units. Shape (vector, place).
        outside: their entries on the symbols outside the group, in the order of `axis`. Shape (vector, outside).
        fitted: each vector's mean plus its cosine at the shared key frequency. Shape (vector, place).
        spectrum: share of each vector's energy at frequency 1, 2, …, constant excluded. Shape (vector, freq).
        axis: the symbol at each position along the grid's sides; those outside the group first. Shape (symbol).
        activation: its activation on inputs (a, b), rows a; NaN where there is no such input. None if the layer has no
            point of shape (example, neuron). Shape (symbol, symbol).
        effects: effect of zero ablation on each split; empty if the logits are not linear in it.
        effects_note: why there are no effects and no cells, or "".
        cells: the training cells whose given label it supports most; None if the logits are not linear in it.
    """

    neuron: int
    width: int
    point: str
    label: str
    features: FourierFeatures
    alignment: dict[str, float]
    share_threshold: float
    false_positive_rate: float
    symbols: Int[Tensor, " place"]
    values: Float[Tensor, "vector place"]
    outside: Float[Tensor, "vector outside"]
    fitted: Float[Tensor, "vector place"]
    spectrum: Float[Tensor, "vector freq"]
    axis: Int[Tensor, " symbol"]
    activation: Float[Tensor, "symbol symbol"] | None
    effects: tuple[RemovalEffect, ...]
    effects_note: str
    cells: RaisedCells | None

    @property
    def key(self) -> int:
        """The key frequency that its vectors share; 0 if they have no energy."""
        return int(self.features.key)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per vector: neuron, class, key_frequency, share (the neuron's), then its measures."""
        found = self.features
        columns = {"neuron": self.neuron, "class": self.label, "key_frequency": self.key, "share": float(found.share)}
        columns |= {"vector": found.names, "vector_key_frequency": found.vector_key[:, 0].numpy()}
        columns |= {name: getattr(found, name)[:, 0].numpy() for name in PER_VECTOR}
        return pd.DataFrame(columns)

    def effects_frame(self) -> pd.DataFrame:
        """Return one row per split: split, n, lost, gained, then accuracy, accuracy_without, accuracy_change and
        margin_change, each with its ends _low and _high; missing where the split is.
        """  # noqa: D205
        rows = []
        for effect in self.effects:
            row = {name: getattr(effect, name) for name in ("split", "n", "lost", "gained")}
            for name in ("accuracy", "accuracy_without", "accuracy_change", "margin_change"):
                found: Estimate | None = getattr(effect, name)
                ends = (np.nan, np.nan, np.nan) if found is None else (found.value, found.low, found.high)
                row |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
            rows.append(row)
        return pd.DataFrame(rows)

    def cells_frame(self) -> pd.DataFrame:
        """Return one row per cell it supports most: a, b, given, true, noisy, contribution; empty if not known."""
        columns = ["a", "b", "given", "true", "noisy", "contribution"]
        return pd.DataFrame(columns=columns) if self.cells is None else self.cells.to_frame()

    def plot(self) -> go.Figure:
        """Return waves, spectra, the activation on the grid, and the effects, in one figure."""
        names = {"u": "u (input a)", "v": "v (input b)", "w": "w (output)"}
        columns = zip(self.features.names, self.values, self.fitted, self.spectrum, self.outside, strict=True)
        waves = [Wave(names[name], *(part.numpy() for part in parts)) for name, *parts in columns]
        effects = self.effects_frame().rename(columns=lambda name: name.replace("margin_change", "value"))
        effects = effects.rename(columns={"value_low": "low", "value_high": "high"})
        common = ">" if float(self.features.share) > self.share_threshold else "≤"
        known = {name: value for name, value in self.alignment.items() if math.isfinite(value)}
        error = "".join(f", {name} error {value:+.2f} rad" for name, value in known.items())
        title = f"neuron {self.neuron} of {self.width:,}: {self.label}"
        if self.key:
            share = f"share {float(self.features.share):.2f} ({common} threshold {self.share_threshold:.2f})"
            title += f"<br><span style='font-size:12px'>key frequency {self.key}, {share}{error}</span>"
        return neuron_page(
            waves,
            None if self.activation is None else self.activation.numpy(),
            effects if len(effects) else pd.DataFrame(columns=["split", "value", "low", "high"]),
            title=title,
            key=self.key,
            symbols=self.symbols.numpy(),
            axis=self.axis.numpy(),
            order="by logarithm" if len(self.axis) > len(self.symbols) else "",
            note=self.effects_note,
        )

    def _repr_html_(self) -> str:
        head = f"<p><b>neuron {self.neuron}</b> of {self.width:,} {self.point}: <b>{self.label}</b></p>"
        effects = (
            self.effects_frame().to_html(index=False, na_rep="") if self.effects else f"<p>{self.effects_note}</p>"
        )
        cells = self.cells_frame().head(10).to_html(index=False)
        return head + self.to_frame().to_html(index=False) + effects + cells


@checked_but("m")
def neuron(
    subject: Subject | nn.Module,
    m: SupportsIndex,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
    point: str = "",
) -> NeuronCard:
    """Describe one neuron: waves, class, the effect of its ablation, and the training cells it memorizes most.

        mm.neuron(network, 3).plot()

    Args:
        subject: a network over a cyclic group, with the roles input_embedding and readout.
        m: the neuron's number.
        task: for a bare model, its task.
        roles: for a bare model without an attribute `roles`, its roles.
        point: hook point of the layer, one of the role `hidden`; by default the last.

    Raises:
        UnknownNameError: there is no such neuron or layer.
        ConfigError: m is not a whole number, or a bare model lacks its task.
        MissingNeedError: the subject lacks something that the classification needs.
        ScoreError: a weight is not finite.
    """
    subject = subject_of(subject, task, roles)
    wrong = f"the number of a neuron must be a whole number, got {m!r}"
    if isinstance(m, bool):
        raise ConfigError(wrong)
    try:
        m = operator.index(m)
    except TypeError as error:
        raise ConfigError(wrong) from error
    found = subject.memo(f"neuron_card {point}", lambda: FourierClassification(point=point)(subject))
    width = len(found.classes)
    if not 0 <= m < width:
        raise UnknownNameError(
            f"no neuron {m}: the neurons of {found.point or 'the layer'} are numbered 0 … {width - 1}"
        )
    task, group = subject.task, cyclic_group(subject.task)
    columns = torch.stack([x[:, m] for x in neuron_vectors(subject, point).vectors], 1)
    columns = full_precision(columns.cpu())
    features = found.features.of(m)
    key = features.key.clamp(min=1).expand(columns.shape[1])
    values = columns[group.elements]
    try:
        last, note = linear_readout(subject, point), ""
        hidden = last.hidden[:, m]
    except NotLinearError as error:
        last, note, hidden = None, str(error), _activation(subject, found.point, m)
    axis = torch.cat([group.outside, group.elements])
    return NeuronCard(
        neuron=m,
        width=width,
        point=found.point,
        label=CLASSES[int(found.classes[m])],
        features=features,
        alignment={name: float(error[m]) for name, error in found.alignment.items()},
        share_threshold=found.share_threshold,
        false_positive_rate=found.false_positive_rate,
        symbols=group.elements.clone(),
        values=values.T.contiguous(),
        outside=columns[group.outside].T.contiguous(),
        fitted=(values.mean(0) + group.keep(columns, key)[group.elements]).T.contiguous(),
        spectrum=shares(varying_power(group.spectrum(columns))).T.contiguous(),
        axis=axis,
        activation=None if hidden is None else _on_grid(task, hidden, axis),
        effects=() if last is None else tuple(removal_effects(task, last, m)),
        effects_note=note,
        cells=None if last is None else raised_cells(task, last, m, LISTED_CELLS),
    )


def _activation(subject: Subject, point: str, m: int) -> Float[Tensor, " example"] | None:
    if not point:
        return None
    hidden = full_precision(activations(subject, point, ids=subject.task.ids)[point])
    return hidden[:, m] if hidden.ndim == 2 else None


def _on_grid(task: Task, values: Float[Tensor, " example"], axis: Int[Tensor, " symbol"]) -> Tensor:
    assert task.operands is not None
    grid = torch.full((len(axis), len(axis)), torch.nan, dtype=values.dtype)
    place = torch.argsort(axis)
    grid[place[task.operands[:, 0]], place[task.operands[:, 1]]] = values
    return grid
