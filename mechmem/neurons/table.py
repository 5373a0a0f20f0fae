"""Scores by name, side by side, and how far they agree."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.plugins import named
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.scores import NeuronScores
from mechmem.core.stats import bootstrap, rank_correlation, rank_correlations
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MechmemError, ScoreError, unknown_name
from mechmem.plotting.matrices import signed_matrix

if TYPE_CHECKING:
    import plotly.graph_objects as go

DEFAULT_SCORES = (
    "ipr",
    "strength",
    "ablation_effect(measure=loss)",
    "ablation_effect(train_noisy,measure=loss)",
    "weight_norm",
)
"""A network that fits its training set loses no accuracy with any one neuron, so the effects are those on the loss."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ScoreTable(Result):
    """Several scores of the same neurons.

    Attributes:
        names: the scores that could be computed, with their settings.
        values: their values, each in its own unit. Shape (score, neuron), neurons in the network's order.
        point: the hook point that holds the layer's neurons.
        higher: what a high value of each score is taken to mean.
        notes: what should be known about a score, by name; only where there is something.
        reasons: why a score that was asked for is not among them, by name.
    """

    names: tuple[str, ...]
    values: Float[Tensor, "score neuron"]
    point: str
    higher: tuple[str, ...]
    notes: Mapping[str, str]
    reasons: Mapping[str, str]

    def __getitem__(self, name: str) -> NeuronScores:
        """Return one score by name.

        Raises:
            ScoreError: it could not be computed.
            UnknownNameError: it was not asked for.
        """
        if name in self.reasons:
            raise ScoreError(f"{name!r} could not be computed: {self.reasons[name]}")
        if name not in self.names:
            raise unknown_name("score in this table", name, self.names)
        row = self.names.index(name)
        return NeuronScores(name, self.values[row], self.point, self.higher[row], self.notes.get(name, ""))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per neuron: neuron, then a column per score."""
        columns = {name: row.numpy() for name, row in zip(self.names, self.values, strict=True)}
        return pd.DataFrame({"neuron": range(self.values.shape[1]), **columns})

    def agreement(self, *, seed: int = 0, resamples: int = 1000) -> pd.DataFrame:
        """Return Spearman's rank correlation of every pair of scores, with bootstrap intervals over neurons.

        Args:
            seed: seed of the resampling.
            resamples: number of bootstrap resamples; one in which a score is constant counts as no correlation.

        Returns:
            a frame with one row per pair and the columns score, other, correlation, low, high (95 % interval), n
            (neurons) and reason (why there is no correlation, or ""). The neurons of one network were trained together:
            the interval is about which neurons happened to be there, not about another training run.
        """
        rows = []
        values = self.values.double().numpy()
        for left, right in itertools.combinations(range(len(self.names)), 2):
            reason = self._constant(left) or self._constant(right)
            found = (
                None
                if reason
                else bootstrap(rank_correlation, [values[left], values[right]], seed=seed, resamples=resamples)
            )
            pair = {"score": self.names[left], "other": self.names[right]}
            figures = (found.value, found.low, found.high) if found else (np.nan,) * 3
            pair |= dict(zip(("correlation", "low", "high"), figures, strict=True))
            rows.append(pair | {"n": values.shape[1], "reason": reason})
        return pd.DataFrame(rows, columns=["score", "other", "correlation", "low", "high", "n", "reason"])

    def _constant(self, row: int) -> str:
        constant = bool((self.values[row] == self.values[row, 0]).all())
        return f"{self.names[row]} has the same value for every neuron" if constant else ""

    def plot(self) -> go.Figure:
        """Return the matrix of Spearman's rank correlations; a score that is the same for all neurons is blank."""
        matrix = rank_correlations(self.values.double().numpy())
        return signed_matrix(matrix, self.names, z_title="Spearman's rank correlation")


def scores(
    subject: nn.Module | Subject,
    names: Sequence[str] = DEFAULT_SCORES,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
) -> ScoreTable:
    """Score every neuron of a layer in several ways.

    Args:
        subject: a subject (a trained run, say), or a network.
        names: the scores, e.g. "ipr" or "ablation_effect(train_noisy)"; all of the same layer.
        task: the network's task; goes with a bare network.
        roles: the network's roles; by default its own.

    Returns:
        the scores that could be computed, and why the others could not.

    Raises:
        UnknownNameError: there is no such score, or no such setting of it.
        ConfigError: a name cannot be read, one is given twice, or none is given.
        ScoreError: not one score could be computed; the message holds every reason.
    """
    subject = subject_of(subject, task, roles)
    parsed = [named("neuron_scores", name) for name in ((names,) if isinstance(names, str) else names)]
    if not parsed or len(set(parsed)) < len(parsed):
        raise ConfigError(f"scores takes different names, at least one; got {names!r}")
    found: list[NeuronScores] = []
    reasons: dict[str, str] = {}
    for each in parsed:
        try:
            result = each(subject)
        except MechmemError as error:
            reasons[each.label()] = str(error)
            continue
        first = found[0] if found else result
        if (result.point, len(result.values)) != (first.point, len(first.values)):
            reasons[each.label()] = f"its neurons are those of {result.point!r}, the first score's of {first.point!r}"
            continue
        found.append(result)
    if not found:
        raise ScoreError("no score could be computed: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    return ScoreTable(
        names=tuple(result.score for result in found),
        values=torch.stack([result.values.double() for result in found]),
        point=found[0].point,
        higher=tuple(result.higher for result in found),
        notes={result.score: result.note for result in found if result.note},
        reasons=reasons,
    )
