"""Measurements of the paper's networks, and their figures."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from mechmem.analyses.layers.gradient_accounting import ALL, GradientAccounting
from mechmem.analyses.layers.layer_rewinding import LayerRewinding
from mechmem.core.plugins import named
from mechmem.core.subject import Subject
from mechmem.math.logits import answers_of
from mechmem.models.networks.masks import ExampleTiedDropout
from mechmem.models.networks.subnetworks import mask_layers, subnetwork
from mechmem.models.reading.forward import logits_of
from mechmem.recipes.measures import Rows, accuracies, curves
from mechmem.training.run import Run

MOST = 32
"""Largest flipping set searched for; an example that needs more units counts as one more."""

LAST = "wrong labels forgotten by rewinding the last layer"
OTHERS = "most forgotten by rewinding one other layer"
COSINE = "cosine of clean and noisy gradients"


def own(subject: Subject) -> Rows:
    """Accuracy on the given labels of each example's own subnetwork (its memory units and the shared units)."""
    task = subject.task
    with subnetwork(subject.model, "own"):
        fitted = answers_of(logits_of(subject.model, task, task.train_ids)) == task.given(task.train_ids)
    yield "train of own", math.nan, float(fitted.double().mean())
    noisy = task.noisy
    if noisy is not None and noisy.any():
        yield "train noisy of own", math.nan, float(fitted[noisy].double().mean())


def dropped(subject: Subject) -> Rows:
    """Accuracies without memory units, for a network that has them."""
    if any(isinstance(layer, ExampleTiedDropout) for layer in mask_layers(subject.model)):
        yield from accuracies("drop_memory")(subject)


def flipping(subject: Subject) -> Rows:
    """Mean number of units ablated until the prediction flips, over fitted examples."""
    scores = named("example_scores", f"flip_cost(most={MOST})")(subject)
    truth, fitted = subject.task.true(scores.ids), scores.values > 0
    values = scores.values.clamp(max=MOST + 1)
    if truth is None:
        return
    noisy = truth != subject.task.given(scores.ids)
    for name, members in (("clean", fitted & ~noisy), ("noisy", fitted & noisy)):
        yield f"units to flip, {name}", math.nan, float(values[members].mean()) if members.any() else math.nan


def rewinding(subject: Subject) -> Rows:
    """Accuracy on wrong labels lost by rewinding one layer to its state a tenth into training."""
    steps = [step for step in _run(subject).checkpoint_steps() if step]
    early = max((step for step in steps if step <= steps[-1] / 10), default=steps[0])
    frame = LayerRewinding(step=early)(subject).to_frame()
    noisy = frame.loc[frame["split"] == "train_noisy"].set_index("layer")["value"]
    lost = noisy.iloc[0] - noisy.iloc[1:]
    for number, value in enumerate(lost, 1):
        yield "wrong labels forgotten, by layer", float(number), float(value)
    yield LAST, math.nan, float(lost.iloc[-1])
    yield OTHERS, math.nan, float(lost.iloc[:-1].max())


def gradients(subject: Subject) -> Rows:
    """Cosine between the mean gradients of clean and noisy examples at each checkpoint, and its mean without step 0."""
    run = _run(subject)
    found = []
    for step in run.checkpoint_steps():
        frame = GradientAccounting()(subject.with_model(run.model_at(step))).to_frame()
        whole = frame.loc[(frame["layer"] == ALL) & (frame["quantity"] == "cosine"), "value"].iloc[0]
        yield f"{COSINE} during training", float(step), float(whole)
        found += [float(whole)] if step else []
    yield COSINE, math.nan, sum(found) / len(found)


def over_steps(table: pd.DataFrame) -> go.Figure:
    """Draw the cosine over steps."""
    series = {f"{COSINE} during training": "clean and noisy"}
    return curves(table, series, x_title="training step (log scale)", y_title="cosine of mean gradients", log_x=True)


def by_layer(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracy on wrong labels lost by rewinding each layer."""
    series = {"wrong labels forgotten, by layer": "accuracy lost on wrong labels"}
    return curves(table, series, x_title="rewound layer (the last is the readout)", y_title="accuracy lost")


def _run(subject: Subject) -> Run:
    assert isinstance(subject.run, Run)
    return subject.run
