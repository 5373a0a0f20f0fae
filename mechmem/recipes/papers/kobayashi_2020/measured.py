"""Measurements of the networks."""

from __future__ import annotations

import math

import pandas as pd
import plotly.graph_objects as go
import torch

from mechmem.core.randomness import generator
from mechmem.core.subject import Subject
from mechmem.examples.data_value import data_value
from mechmem.examples.influence import influence
from mechmem.examples.leave_one_out import leave_one_out
from mechmem.plotting.bars import dots
from mechmem.recipes.measures import Rows, pooled
from mechmem.training.isolation import isolation
from mechmem.training.run import Run

LEFT_OUT = 10
"""Number of examples without which each network is retrained."""
TARGETS = 200
"""Number of training examples on which the harm of others is measured; no test label is used."""
HELPFUL = 5
REMOVED = 0.2

FAITHFUL = "rank correlation of self-influence with leaving the example out"
SHARE = "change of the flipped logits, as a share of the own ones'"
MOVED = ("without the example itself", "without another example")
SAME_LABEL = "share of the most helpful examples with the target's label"


def isolated(subject: Subject) -> Rows:
    """Number of parameters through which examples affect their flipped subnetworks."""
    yield "leaks", math.nan, float(len(isolation(subject).leaks))


def left_out(subject: Subject) -> Rows:
    """Change of an example's logits when retrained without it, and the correlation of self-influence with its loss."""
    found = leave_one_out(subject, sample=LEFT_OUT, seed=_seed(subject))
    change = dict(zip(found.parts, found.change.mean(1).tolist(), strict=True))
    for heading, values in zip(MOVED, (found.change, found.background), strict=True):
        for part, value in zip(found.parts, values.mean(1).tolist(), strict=True):
            yield f"{heading}: {part}", math.nan, value
    yield SHARE, math.nan, change["flipped"] / max(change["own"], 1e-12)
    yield FAITHFUL, math.nan, found.agreement().value


def explained(subject: Subject) -> Rows:
    """Fraction of the most helpful training examples whose given label is the test example's true label."""
    targets = subject.task.test_ids[:TARGETS]
    found = influence(subject, targets=targets)
    top = found.values.argsort(1, descending=True)[:, :HELPFUL]
    same = found.source_labels[top] == found.target_labels[:, None]
    yield SAME_LABEL, math.nan, float(same.double().mean())


def cleansed(subject: Subject) -> Rows:
    """Test accuracy after removing the training examples that harm others most, or as many random ones.

    Harm is measured on training examples with their given labels.
    """
    task, seed = subject.task, _seed(subject)
    shuffled = task.sources[torch.randperm(len(task.sources), generator=generator(seed, "cleansing"))]
    found = influence(subject, targets=shuffled[:TARGETS])
    values = found.values.clone()
    # An example's influence on itself is its memorization, not harm to others.
    values[found.targets[:, None] == found.sources[None, :]] = 0
    harmful = found.sources[values.mean(0).argsort()]
    count = max(1, round(REMOVED * len(task.sources)))
    truth = task.true(harmful)
    if truth is not None:
        wrong = truth != task.given(harmful)
        yield "share of wrong labels among the harmful", math.nan, float(wrong[:count].double().mean())
    kinds = {"harmful": harmful[:count], "random": shuffled.flip(0)[:count]}
    value = data_value(subject, kinds, seeds=[seed])
    for name, accuracy in zip(value.names, value.accuracy[:, 0], strict=True):
        yield f"test without {name}", math.nan, float(accuracy)


def _seed(subject: Subject) -> int:
    assert isinstance(subject.run, Run) and subject.run.config is not None
    return subject.run.config.seed


def moved(table: pd.DataFrame) -> go.Figure:
    """Draw the change of an example's logits when retrained without it and without another example."""
    found = pooled(table, of_curves=False)
    parts = found["quantity"].str.partition(": ")
    frame = found.assign(panel=parts[0], row=parts[2])
    frame = pd.DataFrame(frame.loc[frame["panel"].isin(MOVED)])
    return dots(frame, {}, x_title="mean change of its logits").update_xaxes(matches="x", rangemode="tozero")
