"""Scores of training examples by name, side by side, with the same ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.alike import check_alike, check_same_examples
from mechmem.core.arguments import checked
from mechmem.core.config import check_different
from mechmem.core.plugins import ExampleScore, named
from mechmem.core.roles import Roles
from mechmem.core.score_tables import TableOfScores, computed
from mechmem.core.scores import ExampleScores, with_unit
from mechmem.core.stats import bootstrap, check_resamples, rank_correlation
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.plotting.matrices import grid_of_values
from mechmem.tasks.splits import split_names

if TYPE_CHECKING:
    import plotly.graph_objects as go

BASELINE = "loss"
"""The score in every table."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ExampleTable(TableOfScores[ExampleScores]):
    """Several scores of the same training examples, of one network or as the mean over several.

    The frame has the columns id, split, given and true (−1 if not known), then one per score.

    Attributes:
        ids: the examples, those of the training set without augmentation. Shape (example).
        scores: the scores that could be computed, by name, in the order requested.
        errors: standard error of each score's mean over networks; NaN for a single network. Shape (example) each.
        networks: number of networks averaged over.
        given: the labels given in training. Shape (example).
        true: the true labels, or None if they are not known. Shape (example).
        operands: the pair of symbols of each example, or None if inputs are not pairs. Shape (example, 2).
        symbols: number of symbols, or None.
        reasons: why each requested score that is missing could not be computed, by name.
    """

    ids: Int[Tensor, " example"]
    scores: Mapping[str, ExampleScores]
    errors: Mapping[str, Float[Tensor, " example"]]
    networks: int
    given: Int[Tensor, " example"]
    true: Int[Tensor, " example"] | None
    operands: Int[Tensor, "example 2"] | None
    symbols: int | None
    reasons: Mapping[str, str]

    @property
    def splits(self) -> tuple[str, ...]:
        """The split of each example: "train_clean" or "train_noisy", or "train" where it is not known."""
        return split_names(None if self.true is None else self.true != self.given, len(self.ids))

    def _scores(self) -> Mapping[str, ExampleScores]:
        return self.scores

    def _units(self) -> pd.DataFrame:
        known = torch.full_like(self.given, -1) if self.true is None else self.true
        frame = pd.DataFrame({"id": self.ids.numpy(), "split": self.splits})
        return frame.assign(given=self.given.numpy(), true=known.numpy())

    def _ranked(self, scores: ExampleScores) -> Float[np.ndarray, " example"]:
        """Return values oriented so that high is suspect, infinite ones beyond all others; only ranks are used."""
        values = scores.suspicion.numpy()
        return np.nan_to_num(values, posinf=np.finfo(float).max, neginf=np.finfo(float).min)

    def against(self, reference: str, *, seed: int = 0, resamples: int = 1000) -> pd.DataFrame:
        """Return Spearman's rank correlation of every other score with a reference score, e.g. "feldman_zhang".

        All scores are oriented so that high is suspect.

        Args:
            reference: the score that the others are compared with.
            seed: seed of the resampling.
            resamples: number of bootstrap resamples over examples.

        Returns:
            a frame with one row per other score and the columns score, correlation, low, high (95 % interval), n.

        Raises:
            ScoreError: the reference could not be computed.
            UnknownNameError: it was not asked for.
        """
        check_resamples(resamples)
        truth = self._ranked(self[reference])
        rows = []
        for name, each in self.scores.items():
            if name != reference:
                found = bootstrap(rank_correlation, [truth, self._ranked(each)], seed=seed, resamples=resamples)
                rows.append({"score": name, "correlation": found.value, "low": found.low, "high": found.high})
        frame = pd.DataFrame(rows, columns=["score", "correlation", "low", "high"])
        return frame.assign(n=len(self.ids))

    def grid(self, name: str) -> go.Figure:
        """Return one score on the grid of input pairs, with a dot on wrongly labelled cells; other cells are blank.

        Raises:
            MissingNeedError: the inputs are not pairs.
            ScoreError: the score could not be computed.
            UnknownNameError: it was not asked for.
        """
        if self.operands is None or self.symbols is None:
            raise MissingNeedError("this task's inputs are not pairs of symbols, so there is no grid to draw")
        found = self[name]
        side = self.symbols
        place = tuple(self.operands.T.numpy())
        values, details = np.full((side, side), np.nan), np.full((side, side, 2), -1)
        finite = found.values.numpy().astype(float)
        values[place] = np.where(np.isfinite(finite), finite, np.nan)
        details[place] = np.stack([self.ids.numpy(), self.given.numpy()], 1)
        noisy = np.zeros((side, side), dtype=bool)
        if self.true is not None:
            noisy[place] = (self.true != self.given).numpy()
        title = with_unit(name, found.unit)
        hover = "a %{y}, b %{x}: %{z:.3g}<br>id %{customdata[0]}, given %{customdata[1]}<extra></extra>"
        marks = {"wrong label": noisy}
        return grid_of_values(values, marks, details, z_title=title, hover=hover, signed=bool((finite < 0).any()))


@checked
def example_scores(
    subjects: nn.Module | Subject | Sequence[Subject],
    names: str | ExampleScore | Sequence[str | ExampleScore] = ("loss", "margin"),
    *,
    task: Task | None = None,
    roles: Roles | None = None,
) -> ExampleTable:
    """Score every training example in several ways.

        mm.example_scores(network, ["self_influence", "tracin"]).to_frame()

    Args:
        subjects: a subject (e.g. a trained run), a network, or several subjects with one training set (other seeds of
            the network or of its masks), over which the scores are averaged.
        names: the scores, e.g. "loss" or "tracin"; `mechmem list` lists them. One with a setting that has no name, such
            as a classifier of your own, is given itself. The loss is always included.
        task: the task of a bare network.
        roles: the network's roles; by default its own.

    Returns:
        the scores that could be computed for every network, and why the others could not.

    Raises:
        UnknownNameError: there is no such score or setting.
        ConfigError: a name cannot be parsed or is repeated, or the networks differ in examples, inputs or given
            labels.
        ScoreError: the loss could not be computed.
    """
    several = list(subjects) if isinstance(subjects, Sequence) else [subject_of(subjects, task, roles)]
    if not several or not all(isinstance(each, Subject) for each in several):
        raise ConfigError("subjects must be a Subject, a network with its task, or a list of at least one Subject")
    asked = (names,) if isinstance(names, str | ExampleScore) else names
    parsed = [name if isinstance(name, ExampleScore) else named("example_scores", name) for name in asked]
    if not parsed:
        raise ConfigError("example_scores: names must be at least one, got none")
    check_different("example_scores", [each.label() for each in parsed])
    check_alike(several, "subjects")
    check_same_examples(several, "subjects")
    baseline = named("example_scores", BASELINE)
    parsed = parsed if baseline in parsed else [baseline, *parsed]
    task = several[0].task
    ids, given = task.sources, task.given(task.sources)
    found, reasons = computed(parsed, lambda score: _pooled([score(subject) for subject in several]))
    if BASELINE not in found:
        raise ScoreError(f"not even the loss could be computed: {reasons[BASELINE]}")
    pairs = (None, None) if task.operands is None else (task.operands[task.rows(ids)], task.symbols)
    values, errors = (
        {name: mean for name, (mean, _) in found.items()},
        {name: error for name, (_, error) in found.items()},
    )
    return ExampleTable(ids, values, errors, len(several), given, task.true(ids), *pairs, reasons)


def _pooled(results: Sequence[ExampleScores]) -> tuple[ExampleScores, Float[Tensor, " example"]]:
    """Return the mean over networks, and its standard error; a value infinite in one network has an infinite mean."""
    values = torch.stack([each.values for each in results])
    notes = "; ".join(dict.fromkeys(each.note for each in results if each.note))
    if len(results) == 1:
        return results[0], torch.full_like(values[0], torch.nan)
    error = values.std(0) / len(results) ** 0.5
    return dataclasses.replace(results[0], values=values.mean(0), note=notes), error
