"""Scores by name, side by side, and how far they agree."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_different
from mechmem.core.plugins import named
from mechmem.core.roles import Roles
from mechmem.core.score_tables import TableOfScores, computed
from mechmem.core.scores import NeuronScores
from mechmem.core.stats import bootstrap, check_resamples, rank_correlation
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, ScoreError

DEFAULT_SCORES = (
    "ipr",
    "strength",
    "ablation_effect(measure=loss)",
    "ablation_effect(train_noisy,measure=loss)",
    "weight_norm",
)
"""Default scores. Effects are on the loss: a network that fits its training set loses no accuracy with one neuron."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class NeuronTable(TableOfScores[NeuronScores]):
    """Several scores of the same neurons.

    Attributes:
        names: the scores that could be computed, with their settings.
        values: their values, each in its own unit. Shape (score, neuron), neurons in the network's order.
        point: the hook point that holds the layer's neurons.
        higher: interpretation of a high value of each score.
        notes: remarks on the scores that have any, by name.
        reasons: why a score that was asked for is missing, by name.
    """

    names: tuple[str, ...]
    values: Float[Tensor, "score neuron"]
    point: str
    higher: tuple[str, ...]
    notes: Mapping[str, str]
    reasons: Mapping[str, str]

    def _scores(self) -> Mapping[str, NeuronScores]:
        rows = zip(self.names, self.values, self.higher, strict=True)
        return {name: NeuronScores(name, row, self.point, high, self.notes.get(name, "")) for name, row, high in rows}

    def _units(self) -> pd.DataFrame:
        return pd.DataFrame({"neuron": range(self.values.shape[1])})

    def _ranked(self, scores: NeuronScores) -> Float[np.ndarray, " neuron"]:
        return scores.values.double().numpy()

    def agreement(self, *, seed: int = 0, resamples: int = 1000) -> pd.DataFrame:
        """Return Spearman's rank correlation of every pair of scores, with bootstrap intervals over neurons.

        Args:
            seed: seed of the resampling.
            resamples: number of bootstrap resamples; the correlation is 0 in a resample in which a score is constant.

        Returns:
            a frame with one row per pair and the columns score, other, correlation, low, high (95 % interval), n
            (neurons) and reason (why there is no correlation, or ""). The neurons of one network were trained together:
            the interval covers the sampling of neurons, not another training run.
        """
        check_resamples(resamples)
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


@checked
def neuron_scores(
    subject: nn.Module | Subject,
    names: str | Sequence[str] = DEFAULT_SCORES,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
) -> NeuronTable:
    """Score every neuron of a layer in several ways.

        mm.neuron_scores(network, ["ipr", "strength", "ablation_effect(measure=loss)"]).to_frame()

    Args:
        subject: a subject (a trained run, say), or a network.
        names: the scores, e.g. "ipr" or "ablation_effect(train_noisy)"; all of the same layer.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own.

    Returns:
        the scores that could be computed, and the reasons why others could not.

    Raises:
        UnknownNameError: there is no such score, or no such setting of it.
        ConfigError: a name cannot be read, one is given twice, or none is given.
        ScoreError: no score could be computed; the message holds every reason.
    """
    subject = subject_of(subject, task, roles)
    parsed = [named("neuron_scores", name) for name in ((names,) if isinstance(names, str) else names)]
    if not parsed:
        raise ConfigError("neuron_scores: names must be at least one, got none")
    check_different("neuron_scores", [each.label() for each in parsed])
    found, reasons = computed(parsed, lambda score: score(subject))
    if not found:
        raise ScoreError("no score could be computed: " + "; ".join(f"{name}: {why}" for name, why in reasons.items()))
    first = next(iter(found.values()))
    for name, each in list(found.items()):
        if (each.point, len(each.values)) != (first.point, len(first.values)):
            reasons[name] = f"its neurons belong to {each.point!r}, those of the first score to {first.point!r}"
            del found[name]
    return NeuronTable(
        names=tuple(found),
        values=torch.stack([each.values.double() for each in found.values()]),
        point=first.point,
        higher=tuple(each.higher for each in found.values()),
        notes={name: each.note for name, each in found.items() if each.note},
        reasons=reasons,
    )
