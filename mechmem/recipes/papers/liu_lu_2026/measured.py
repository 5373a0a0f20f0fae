"""Measurements of the paper's networks, and its redrawn figures."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go

from mechmem.analyses.logits.suppression import Suppression
from mechmem.analyses.neurons.partition import Partition
from mechmem.analyses.runs.fitting_order import FittingOrder
from mechmem.core.subject import Subject
from mechmem.plotting.lines import lines
from mechmem.recipes.measures import NAMES, STYLES, Rows, accuracies, curves, history, pooled
from mechmem.training.run import Run

SCORES = {"ipr(of=w)": "IPR", "strength": "Strength"}
"""The paper's two scores of neurons, with their titles."""

PARTS = {"row_column": "row and column effects", "rule": "rule", "remainder": "remainder"}


def noise_first(subject: Subject) -> Rows:
    """Order in which noisy and clean labels are fitted, and the fractions fitted over training.

    "noisy before clean" is the probability that a noisy example is fitted for good at an earlier evaluation than a
    clean one (ties count half); "first hit" is the same for the first time that the label is predicted.
    """
    found = FittingOrder()(subject)
    for title, estimate in (("noisy before clean", found.precedence()), ("first hit", found.precedence("first"))):
        yield title, math.nan, math.nan if estimate is None else estimate.value
    table = found.curves()
    for split in ("train_clean", "train_noisy"):
        rows = table.loc[(table["quantity"] == "accuracy") & (table["split"] == split)]
        for step, value in zip(rows["step"], rows["value"], strict=True):
            yield f"{NAMES[split]} during training", float(step), float(value)


def first_epoch(subject: Subject) -> Rows:
    """Accuracy on clean and on noisy examples after the first epoch, and at every evaluation."""
    assert isinstance(subject.run, Run) and subject.run.config is not None
    n = len(subject.task.train_ids)
    steps = -(-n // (subject.run.config.batch_size or n))
    for quantity, step, value in history(subject):
        yield quantity, step, value
        if step == steps:
            yield quantity.replace("during training", "after one epoch"), math.nan, value


def partitions(subject: Subject) -> Rows:
    """Test accuracy of f^G, and of filtration of f and f^G, by each score; sizes are chosen on training data."""
    for by, title in SCORES.items():
        frame = Partition(by=by)(subject).to_frame()
        tests = frame.loc[frame["split"] == "test"]
        for network, readout, fraction, accuracy in zip(
            *(tests[name] for name in ("network", "extractor", "fraction", "accuracy")), strict=True
        ):
            after = "" if readout == "raw" else " filtered"
            yield f"test of {network}{after} by {title}", math.nan, float(accuracy)
            if not after:
                yield f"size of {network} by {title}", math.nan, float(fraction)


def unembedding(subject: Subject) -> Rows:
    """Accuracies with only the strongest frequencies of the unembedding, 20 in 56 as in the paper."""
    for quantity, x, value in accuracies("readout_frequencies")(subject):
        yield quantity.replace("readout_frequencies", "the filtered unembedding"), x, value


def suppression(subject: Subject) -> Rows:
    """Parts of the true label's margin on held-out inputs, and test accuracy without the row and column effects."""
    found = Suppression()(subject)
    for margin in found.margins:
        for field, part in PARTS.items():
            yield f"{NAMES[margin.split]} margin: {part}", math.nan, getattr(margin, field).value


def over_training(table: pd.DataFrame) -> go.Figure:
    """Draw the accuracies on clean and noisy examples over training, one panel per arm."""
    names = ("train clean", "train noisy")
    series = {f"{name} during training": name for name in names}
    return curves(table, series, x_title="training step (log scale)", log_x=True)


def against_width(table: pd.DataFrame) -> go.Figure:
    """Draw final accuracies against width."""
    found = pooled(table, of_curves=False)
    width = dict(zip(*(found.loc[found["quantity"] == "width", name] for name in ("arm", "value")), strict=True))
    drawn = found.loc[found["quantity"].isin(["test", "train clean", "train noisy"])].copy()
    drawn["x"] = [width[arm] for arm in drawn["arm"]]
    frame = drawn.rename(columns={"quantity": "series"}).sort_values("x", kind="stable")
    return lines(frame, x_title="width N (log scale)", y_title="accuracy", styles=STYLES, log_x=True)
