"""Measurements of the paper's networks, and its redrawn figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.analyses.neurons.amplification import Amplification
from mechmem.analyses.neurons.direct_logit_attribution import QUANTITIES, DirectLogitAttribution
from mechmem.analyses.neurons.inversion_phase import FULL, InversionPhase
from mechmem.analyses.runs.training_times import TrainingTimes
from mechmem.core.plugins import named
from mechmem.core.scores import End
from mechmem.core.stats import rank_correlation
from mechmem.core.subject import Subject
from mechmem.math.fourier import inverse_participation
from mechmem.recipes.measures import Rows, by_arm, curves


def memorizers(subject: Subject) -> Rows:
    """Contribution of the low-IPR and of the high-IPR half of the neurons to the label's mean centred logit."""
    ranked, found = named("neuron_scores", "ipr")(subject), DirectLogitAttribution()(subject)
    halves: tuple[End, End] = ("low", "high")
    for split, neurons in zip(found.splits, found.neurons[QUANTITIES.index("logit")], strict=True):
        for half in halves:
            carried = neurons[ranked.take(0.5, half).mask].sum()
            yield f"{half}-IPR half: {split}", math.nan, float(carried)


def amplification(subject: Subject) -> Rows:
    """Rank correlation, over neurons, of BatchNorm's |γ| and amplitude with IPR."""
    frame = Amplification()(subject).to_frame()
    ipr = frame["ipr"].to_numpy(float)
    for column, title in (("gamma", "|γ|"), ("amplitude", "amplitude")):
        values = frame[column].to_numpy(float)
        if np.isfinite(values).all():
            yield f"Spearman of {title} and IPR", math.nan, float(rank_correlation(values, ipr))


def inversion(subject: Subject) -> Rows:
    """1 if the network's phase is Full Inversion, else 0."""
    yield "Full Inversion", math.nan, float(InversionPhase()(subject).phase == FULL)


def embedding_ipr(subject: Subject) -> Rows:
    """The 95 % quantile, over dimensions of the embedding, of the IPR over symbols (one-sided)."""
    group, embedding = subject.task.group, subject.roles.input_embedding
    assert group is not None and embedding is not None
    spectrum = group.spectrum(embedding.read(subject.model)[0])
    ipr = inverse_participation(spectrum, group.multiplicity, "one_sided")
    yield "IPR of the embedding", math.nan, float(ipr.quantile(0.95))


def two_stages(subject: Subject) -> Rows:
    """Peak training accuracy, and the steps of grokking and of unlearning (see `TrainingTimes`)."""
    assert subject.run is not None and subject.task.noisy is not None
    table = subject.run.history()
    share = float(subject.task.noisy.double().mean())
    train = (1 - share) * table["train_clean"].to_numpy(float) + share * table["train_noisy"].to_numpy(float)
    yield "peak train", math.nan, float(train.max())
    found = TrainingTimes()(subject)
    for event, title in (("grok", "t_grok"), ("unlearn", "t_unlearn")):
        step = found.event(event).upper
        yield title, math.nan, math.nan if step is None else float(step)


def training(table: pd.DataFrame) -> go.Figure:
    """Draw accuracies over training."""
    names = ("train clean", "train noisy", "test")
    series = {f"{name} during training": name for name in names}
    return curves(table, series, x_title="training step (log scale)", log_x=True)


def pruned(table: pd.DataFrame) -> go.Figure:
    """Draw pruning curves, one panel per order."""
    found = table.loc[table["quantity"].str.contains(": ")].copy()
    found[["arm", "quantity"]] = found["quantity"].str.split(": ", expand=True)
    names = ("train clean", "train noisy", "test")
    return curves(found, {name: name for name in names}, x_title="fraction of neurons pruned")


def distributions(table: pd.DataFrame) -> go.Figure:
    """Draw histograms of IPR, one line per arm."""
    x_title = "IPR (mean of u, v, w; one-sided)"
    return curves(table, {"share of neurons": "share"}, x_title=x_title, y_title="fraction of neurons", panels=False)


def arms(names: Sequence[str]) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw accuracies, one row per arm."""
    return lambda table: by_arm(table, names)
