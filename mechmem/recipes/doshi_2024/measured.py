"""What is measured of the paper's networks, and how its figures are redrawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float

from mechmem.analyses.amplification import Amplification
from mechmem.contracts import Subject
from mechmem.linear_readout import linear_readout
from mechmem.neurons import End
from mechmem.reproduction.measures import Rows, by_arm, curves
from mechmem.scoring import score
from mechmem.stats import rank_correlation


def settings(subject: Subject) -> Rows:
    """α, ξ and the weight decay of a run."""
    assert subject.run is not None
    found = subject.run.config  # pyright: ignore[reportAttributeAccessIssue]
    yield "alpha", math.nan, found.task.train_fraction
    yield "xi", math.nan, found.task.noise.fraction
    yield "weight decay", math.nan, found.weight_decay


def memorizers(subject: Subject) -> Rows:
    """Mean centred logit of the label that the half of the neurons with low, and with high, IPR carries."""
    task, ranked = subject.task, score("ipr")(subject)
    readout = linear_readout(subject)
    centred = readout.weights - readout.weights.mean(1, keepdim=True)
    for split, given in (("train_noisy", True), ("train_clean", True), ("test", False)):
        ids = task.splits[split]
        if ids is None or not len(ids):
            continue
        labels = task.given(ids) if given else task.true(ids)
        assert labels is not None
        contribution = readout.hidden[task.rows(ids)] * centred[:, labels].T
        halves: tuple[End, End] = ("low", "high")
        for half in halves:
            neurons = ranked.take(0.5, half).neurons
            yield f"{half}-IPR half: {split}", math.nan, float(contribution[:, neurons].sum(1).double().mean())


def amplification(subject: Subject) -> Rows:
    """Rank correlation of what BatchNorm does to a neuron with the neuron's IPR."""
    frame = Amplification()(subject).to_frame()
    ipr = frame["ipr"].to_numpy(float)
    for column, title in (("gamma", "|γ|"), ("amplitude", "amplitude")):
        values = frame[column].to_numpy(float)
        if np.isfinite(values).all():
            yield f"Spearman of {title} and IPR", math.nan, float(rank_correlation(values, ipr))


def two_stages(subject: Subject) -> Rows:
    """Peak of the training accuracy, step of grokking (test ≥ .9), and step after the peak of unlearning.

    Unlearned is the first evaluation after the peak from which on less than half of the corrupted labels are fitted.
    """
    assert subject.run is not None
    table = subject.run.history()
    step, test, clean, noisy = (table[name].to_numpy(float) for name in ("step", "test", "train_clean", "train_noisy"))
    assert subject.task.noisy is not None
    share = float(subject.task.noisy.double().mean())
    train = (1 - share) * clean + share * noisy
    yield "peak train", math.nan, float(train.max())
    yield "t_grok", math.nan, _first(step, test >= 0.9)
    forgotten = np.logical_and.accumulate((noisy < 0.5)[::-1])[::-1]
    yield "t_unlearn", math.nan, _first(step, forgotten & (np.arange(len(step)) > train.argmax()))


def _first(step: Float[np.ndarray, " evaluation"], happened: Bool[np.ndarray, " evaluation"]) -> float:
    return float(step[happened.argmax()]) if happened.any() else math.nan


def training(table: pd.DataFrame) -> go.Figure:
    """Draw accuracies over training."""
    names = ("train clean", "train noisy", "test")
    series = {f"{name} during training": name for name in names}
    return curves(table, series, x_title="training step (log scale)", log_x=True)


def pruned(table: pd.DataFrame) -> go.Figure:
    """Draw pruning curves, a panel per order."""
    found = table.loc[table["quantity"].str.contains(": ")].copy()
    found[["arm", "quantity"]] = found["quantity"].str.split(": ", expand=True)
    names = ("train clean", "train noisy", "test")
    return curves(found, {name: name for name in names}, x_title="share of neurons pruned")


def distributions(table: pd.DataFrame) -> go.Figure:
    """Draw histograms of IPR, one line per arm."""
    x_title = "IPR (mean of u, v, w; one-sided)"
    return curves(table, {"share of neurons": "share"}, x_title=x_title, y_title="share of neurons", panels=False)


def arms(names: Sequence[str]) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw accuracies, a row per arm."""
    return lambda table: by_arm(table, names)
