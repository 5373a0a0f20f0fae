"""Effects of patching by unit: normalised effects with intervals, and accuracies before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.randomness import derive_seed
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, bootstrap
from mechmem.core.storage import record
from mechmem.core.tables import Table
from mechmem.interventions.batched import Edited
from mechmem.interventions.patching.pairs import Pairing, Runs
from mechmem.math.logits import correct_of
from mechmem.models.reading.forward import logits_of
from mechmem.plotting.units import effects_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

Metric = Literal["margin", "probability"]
RESAMPLES = 2000
"""Bootstrap resamples of an effect."""
Direction = Literal["both", "denoising", "noising"]
Patching = Callable[[Runs, Float[Tensor, "example class"], list[str]], Iterable[Edited]]
"""Patches passes unit by unit, given the unpatched logits; appends remarks on how it was done to the list."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class PatchSide:
    """The effects of patching in one direction.

    Attributes:
        direction: "denoising" or "noising".
        effect: (patched − receiver) / (donor − receiver) of the mean metric: 0 for no change, 1 for the donor's
            behaviour; NaN if the two cannot be distinguished. Shape (unit).
        low: lower end of its 95 % bootstrap interval over examples. Shape (unit).
        high: upper end. Shape (unit).
        patched: mean metric of the patched passes. Shape (unit).
        receiver: mean metric of the unpatched passes.
        donor: mean metric of the passes that the values come from.
        given_before: share of unpatched passes that predict their given label; NaN if a logit is not finite.
        true_before: share of unpatched passes that predict their true label; NaN if it is not known.
        given_after: share of patched passes that predict their given label. Shape (unit).
        true_after: share of patched passes that predict their true label. Shape (unit).
        reason: why there is no effect to report, or "".
    """

    direction: str
    effect: Float[Tensor, " unit"]
    low: Float[Tensor, " unit"]
    high: Float[Tensor, " unit"]
    patched: Float[Tensor, " unit"]
    receiver: Estimate
    donor: Estimate
    given_before: float
    true_before: float
    given_after: Float[Tensor, " unit"]
    true_after: Float[Tensor, " unit"]
    reason: str = ""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class PatchEffects(Result):
    """Normalised effects of patching, unit by unit.

    Attributes:
        kind: kind of the units: "point", "neuron", "frequency", "head", "channel", "position", "set" (of neurons), or
            "path" (a sender along a direct path).
        units: the units' names.
        sites: site of each unit, one row per unit: point, unit (its kind), position, head, channel, neuron. For a path,
            the sender's site.
        sides: one per direction.
        metric: "margin" (logits) or "probability".
        n: number of patched examples (within one network, of pairs).
        note: remarks on how the patching was done, or "".
    """

    kind: str
    units: tuple[str, ...]
    sites: Table
    sides: tuple[PatchSide, ...]
    metric: str
    n: int
    note: str = ""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per direction and unit.

        Columns name, point, unit ("neuron", "head", "channel", "position", "frequency", "set", or "" for all of a
        point), position, head, channel and neuron (its number, missing if it is not a single one), direction, effect,
        low, high, n, mean metrics (receiver, donor, patched), accuracies before and after, reason.
        """
        return pd.concat([self._side_frame(side) for side in self.sides], ignore_index=True)

    def _side_frame(self, side: PatchSide) -> pd.DataFrame:
        frame = self.sites.frame()
        frame.insert(0, "name", list(self.units))
        frame["direction"] = side.direction
        for name in ("effect", "low", "high"):
            frame[name] = getattr(side, name).numpy()
        frame["n"] = self.n
        frame["receiver"], frame["donor"] = side.receiver.value, side.donor.value
        frame["patched"] = side.patched.numpy()
        for name in ("given", "true"):
            frame[f"{name}_before"] = getattr(side, f"{name}_before")
            frame[f"{name}_after"] = getattr(side, f"{name}_after").numpy()
        return frame.assign(reason=side.reason)

    def plot(self) -> go.Figure:
        """Return a figure of the effects.

        The heads of several layers, or the positions of several layers or heads, are a heatmap; other units are one row
        each with an interval, or beyond 40 units points in the order of their effects.
        """
        frame = self.to_frame().rename(columns={"effect": "value", "direction": "series"})
        reasons = [f"{side.direction}: {side.reason}" for side in self.sides if side.reason]
        return effects_figure(frame, "; ".join(reasons))


def metric_of(
    logits: Float[Tensor, "*unit example class"],
    labels: tuple[Int[Tensor, " example"], Int[Tensor, " example"]],
    metric: Metric,
) -> Float[Tensor, "*unit example"]:
    """Return the first label's logit (or softmax probability) minus the second's, in float64."""
    scores = logits.double().softmax(-1) if metric == "probability" else logits
    shape = (*scores.shape[:-1], 1)
    plus, minus = (
        scores.gather(-1, rearrange(label, "e -> e 1").expand(shape)).squeeze(-1).double() for label in labels
    )
    return plus - minus


def effects_of(
    patched: Float[Tensor, "unit example"],
    receiver: Float[Tensor, " example"],
    donor: Float[Tensor, " example"],
    seed: int,
) -> tuple[Float[Tensor, " unit"], Float[Tensor, " unit"], Float[Tensor, " unit"], str]:
    """Return each unit's ratio of means with its 95 % bootstrap interval, all units on the same resamples.

    Args:
        patched: metric of the patched passes.
        receiver: metric of the unpatched passes.
        donor: metric of the passes that the values come from.
        seed: seed of the resampling.

    Returns:
        effect, low and high, and a reason; NaN if the interval of the mean of donor − receiver includes 0.
    """
    change, gap = patched - receiver, donor - receiver
    n = len(gap)
    lost = int((~gap.isfinite()).sum())
    if lost:
        empty = torch.full((len(patched),), torch.nan, dtype=torch.float64)
        return empty, empty.clone(), empty.clone(), f"the logits of {lost} of {n} examples are NaN or infinite"
    found = bootstrap(np.mean, (gap.numpy(),), seed=derive_seed(seed, "patching"))
    if not (found.low > 0 or found.high < 0):
        empty = torch.full((len(patched),), torch.nan, dtype=torch.float64)
        reason = (
            f"donor and receiver cannot be distinguished: their metrics differ by {found.value:.3g} "
            f"[{found.low:.3g}, {found.high:.3g}] on average (n = {n:,})"
        )
        return empty, empty.clone(), empty.clone(), reason
    rng = np.random.default_rng(derive_seed(seed, "patching"))
    drawn = torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), RESAMPLES)).double()
    ratio = (change @ drawn.T) / (drawn @ gap)
    low, high = torch.quantile(ratio, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=1)
    return change.mean(1) / gap.mean(), low, high, ""


def both_ways(
    pairing: Pairing, patching: Patching, n_units: int, direction: Direction, metric: Metric, seed: int
) -> tuple[tuple[PatchSide, ...], str]:
    """Patch in one direction or both.

    Args:
        pairing: the paired passes and the two compared labels.
        patching: function that patches one direction.
        n_units: number of units.
        direction: "denoising", "noising" or "both".
        metric: "margin" or "probability".
        seed: seed of the bootstrap.

    Returns:
        one side per direction, and remarks on how it was done.
    """
    sides, notes = [], [pairing.note]
    for way in _ways(pairing):
        if direction in ("both", way.name):
            sides.append(_measure(way, patching, n_units, metric, seed, notes))
    return tuple(sides), "; ".join(filter(None, dict.fromkeys(notes)))


@dataclasses.dataclass(frozen=True, eq=False)
class _Way:
    """Runs to patch in one direction, and the labels that are read before and after.

    Attributes:
        name: "denoising" or "noising".
        runs: which runs are patched with which.
        labels: the two labels of the metric, the donor's first. Shape (example) each.
        own: the given and the true labels that accuracies are measured with. Shape (example) each.
    """

    name: str
    runs: Runs
    labels: tuple[Int[Tensor, " example"], Int[Tensor, " example"]]
    own: tuple[Int[Tensor, " example"], Int[Tensor, " example"] | None]


def _ways(pairing: Pairing) -> Iterator[_Way]:
    runs, (first, second) = pairing.runs, pairing.labels
    for name, side, labels in (("denoising", runs, (first, second)), ("noising", runs.back(), (second, first))):
        # Between two networks, accuracies are measured with the receiver's labels.
        yield _Way(name, side, labels, (runs.into.task.given(side.ids), runs.into.task.true(side.ids)))


def _measure(way: _Way, patching: Patching, n_units: int, metric: Metric, seed: int, notes: list[str]) -> PatchSide:
    """Patch in one direction; return the effects, and add to the notes."""
    runs, labels = way.runs, way.labels
    before = logits_of(runs.into.model, runs.into.task, runs.ids, runs.into.roles.output)
    target = logits_of(runs.source.model, runs.source.task, runs.source_ids, runs.source.roles.output)
    receiver, donor = (metric_of(logits, labels, metric) for logits in (before, target))
    values = torch.zeros(n_units, len(runs.ids), dtype=torch.float64)
    # Given and true label; the last column is the unpatched pass.
    share = torch.zeros(2, n_units + 1, dtype=torch.float64)
    for row, label in enumerate(way.own):
        share[row, -1] = torch.nan if label is None else correct_of(before, label).mean()
    for chosen, block, logits in patching(runs, before, notes):
        values[chosen, block] = metric_of(logits, (labels[0][block], labels[1][block]), metric)
        for row, label in enumerate(way.own):
            right = torch.nan if label is None else correct_of(logits, label[block]).sum(1)
            share[row, chosen] += right / len(runs.ids)
    effect, low, high, reason = effects_of(values, receiver, donor, seed)
    return PatchSide(
        way.name,
        effect=effect,
        low=low,
        high=high,
        patched=values.mean(1),
        receiver=bootstrap(np.mean, (receiver.numpy(),), seed=derive_seed(seed, "patching")),
        donor=bootstrap(np.mean, (donor.numpy(),), seed=derive_seed(seed, "patching")),
        given_before=float(share[0, -1]),
        true_before=float(share[1, -1]),
        given_after=share[0, :-1],
        true_after=share[1, :-1],
        reason=reason,
    )
