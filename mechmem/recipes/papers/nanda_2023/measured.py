"""Measurements of the paper's network, and its redrawn figures."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from mechmem.analyses.logits.embedding_spectrum import EmbeddingSpectrum
from mechmem.analyses.logits.progress_measures import ProgressMeasures
from mechmem.analyses.neurons.neuron_clusters import NeuronClusters
from mechmem.analyses.runs.training_phases import TrainingPhases
from mechmem.analyses.runs.training_times import TrainingTimes
from mechmem.core.subject import Subject
from mechmem.math.fourier import real_basis
from mechmem.models.reading.grid import logit_energy, logit_parts
from mechmem.recipes.measures import Rows, curves

LOSSES = {"train_loss": "train", "test_loss": "test", "restricted_loss": "restricted", "excluded_loss": "excluded"}
"""Titles of the loss curves in figures."""


def delay(subject: Subject) -> Rows:
    """Steps until test accuracy stays at .9, as a multiple of the steps until training accuracy first reaches it."""
    found = TrainingTimes()(subject)
    fit, grok = found.event("fit_clean").upper, found.event("grok").upper
    yield "t_grok / t_fit", math.nan, math.nan if not fit or grok is None else grok / fit


def embedding(subject: Subject) -> Rows:
    """Gini coefficient of each matrix over the symbols, and the mean of random matrices."""
    for each in EmbeddingSpectrum()(subject).matrices:
        yield f"Gini of {each.name}", math.nan, each.gini
        yield f"Gini of random {each.name}", math.nan, each.random_gini.value


def neurons(subject: Subject) -> Rows:
    """Fraction of neurons with 85 % of their variance explained by one frequency, and that of random neurons."""
    found = NeuronClusters()(subject)
    yield "neurons in a cluster", math.nan, found.clustered
    yield "random neurons in a cluster", math.nan, found.random_clustered


def logits(subject: Subject) -> Rows:
    """Losses and accuracies with only the key frequencies and without them, and the logits' explained variance."""
    found = ProgressMeasures()(subject)
    yield "key frequencies", math.nan, float(len(found.key))
    for each in found.splits:
        for family in ("network", "restricted", "excluded"):
            loss, accuracy = each.loss[family].value, each.accuracy[family].value
            yield f"{family}: log10 loss on {each.split}", math.nan, _log10(loss)
            yield f"{family}: accuracy on {each.split}", math.nan, accuracy
            yield f"{family}: loss on {each.split} / ln p", math.nan, loss / math.log(subject.task.n_classes)
            yield f"{family}: accuracy on {each.split} · p", math.nan, accuracy * subject.task.n_classes
    yield "variance of cos w(a + b − c)", math.nan, _explained(subject, found.key.tolist())


def _explained(subject: Subject, key: list[int]) -> float:
    """Fraction of the logits' variance in Σ_k α_k cos w_k(a + b − c), with each cell's mean over classes subtracted."""
    rule = logit_parts(subject).centred().rule
    n = len(rule)
    # In a function of answer and class, cos w(answer − class) is the mean of cos·cos and sin·sin.
    waves = real_basis(n, rule)
    coefficients = waves @ rule @ waves.T
    carried = sum(float((coefficients[2 * k - 1, 2 * k - 1] + coefficients[2 * k, 2 * k]) ** 2) / 2 for k in key)
    every = logit_energy(subject, centred=True)
    # A mode and its conjugate share one entry, and the grid has n cells per answer.
    return n * carried / (float(every.sum()) - float(every[0, 0]))


def over_training(subject: Subject) -> Rows:
    """Change of each curve in each phase (NaN if the phase is missing), and the curves."""
    found = TrainingPhases()(subject)
    place = {step: index for index, step in enumerate(found.step.tolist())}
    spans = {phase: (place[first], place[last]) for phase, first, last in found.spans()}
    for end in found.ends:
        for name, curve in found.curves.items():
            first, last = (float(curve[at]) for at in spans[end.phase]) if end.phase in spans else (math.nan, math.nan)
            yield f"{end.phase}: log10 {name}, end / start", math.nan, _log10(last) - _log10(first)
            yield f"{end.phase}: {name}, end − start", math.nan, last - first
            share = abs(last - first) / float(curve[0])
            yield f"{end.phase}: {name}, |end − start| / at step 0", math.nan, share
    yield "phases", math.nan, float(len(spans))
    table = found.table()
    for name, title in LOSSES.items():
        for step, value in zip(table["step"], table[name], strict=True):
            yield f"{title} during training", float(step), _log10(value)


def _log10(value: float) -> float:
    # The loss of a very confident network rounds to 0 or slightly below.
    return value if math.isnan(value) else math.log10(max(value, 1e-12))


def losses(table: pd.DataFrame) -> go.Figure:
    """Draw the four losses over training."""
    series = {f"{title} during training": title for title in LOSSES.values()}
    x_title = "training step (log scale)"
    return curves(table, series, x_title=x_title, y_title="log10 cross-entropy (nats)", log_x=True)


def training(table: pd.DataFrame) -> go.Figure:
    """Draw accuracies over training."""
    series = {f"{name} during training": name for name in ("train clean", "test")}
    return curves(table, series, x_title="training step (log scale)", log_x=True)
