"""Measurements of the paper's networks, and their figures."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch.nn.functional as F

from mechmem.analyses.runs.fitting_order import FittingOrder
from mechmem.core.plugins import named
from mechmem.core.subject import Subject
from mechmem.examples.data_value import choose_removals, data_value
from mechmem.examples.detection import detect_label_noise
from mechmem.examples.table import example_scores
from mechmem.math.logits import answers_of
from mechmem.models.networks.mask_config import TurnOver
from mechmem.models.networks.masks import Part
from mechmem.models.networks.subnetworks import subnetwork
from mechmem.models.reading.forward import logits_of
from mechmem.plotting.bars import dots
from mechmem.recipes.measures import Rows, curves, pooled
from mechmem.training.run import Run
from mechmem.training.train import train

SELF = "self_influence"
MASKS = 5
"""Number of networks with different masks over which self-influence is averaged."""
REMOVED = 0.2
"""Fraction of the training set removed for each kind."""
NETWORKS = 64
"""Number of networks trained on random subsets to estimate Feldman–Zhang memorization."""
CHEAP = ("loss", "margin", "learning_speed", "forgetting_events", "settled_depth", "input_curvature", "tracin")
"""Scores of one network without masks that are compared with it, besides self-influence."""

CORRELATION = "correlation of "
HALF = "log10 of the steps by which half is fitted"
EARLY = "own loss, share gone in the first tenth of training"


def learned(subject: Subject) -> Rows:
    """Step by which half of the training examples are fitted for good, and the fraction fitted at each evaluation."""
    steps = np.sort(named("example_scores", "learning_speed")(subject).values.numpy())
    half = steps[(len(steps) - 1) // 2]
    yield HALF, math.nan, math.log10(max(half, 1)) if math.isfinite(half) else math.nan
    for step in _run(subject).history()["step"]:
        yield "share fitted for good", float(step), float((steps <= step).mean())


def own_and_flipped(subject: Subject) -> Rows:
    """Training accuracy of the examples' own subnetworks and of their flipped ones."""
    task = subject.task
    given = task.given(task.sources)
    parts: dict[Part, str] = {"own": "train of own", "flipped": "train of flipped"}
    for part, name in parts.items():
        with subnetwork(subject.model, part):
            predictions = answers_of(logits_of(subject.model, task, task.sources))
        yield name, math.nan, float((predictions == given).double().mean())


def remembered(subject: Subject) -> Rows:
    """Mean self-influence and mean loss of the own subnetworks over training, and their final figures."""
    run = _run(subject)
    score = named("example_scores", SELF)
    for step in run.checkpoint_steps():
        values = score(subject.with_model(run.model_at(step))).values
        yield "self-influence over training", float(step), float(values.mean())
        yield "own loss over training", float(step), _own_loss(subject.with_model(run.model_at(step)))
    yield "self-influence", math.nan, float(score(subject).values.mean())
    start, end = (_own_loss(subject.with_model(run.model_at(step))) for step in (0, _early(run)))
    yield EARLY, math.nan, 1 - end / start


def _early(run: Run) -> int:
    """Return the last checkpoint in the first tenth of training, other than the initialisation."""
    steps = [step for step in run.checkpoint_steps() if step]
    return max((step for step in steps if step <= steps[-1] / 10), default=steps[0])


def _own_loss(subject: Subject) -> float:
    task = subject.task
    with subnetwork(subject.model, "own"):
        logits = logits_of(subject.model, task, task.sources).double()
    return float(F.cross_entropy(logits, task.given(task.sources)))


def order(subject: Subject) -> Rows:
    """Probability that a wrongly labelled example is fitted before a correctly labelled one."""
    found = FittingOrder()(subject).precedence()
    yield "noisy before clean", math.nan, math.nan if found is None else found.value


def finding(subject: Subject) -> Rows:
    """AUROC of the network's loss and learning speed, and of self-influence if it has masks."""
    for score, value in _areas(subject, [subject]).items():
        yield f"AUROC of {score}", math.nan, value


def finding_averaged(subject: Subject) -> Rows:
    """AUROC of self-influence averaged over networks that differ only in their masks."""
    run = _run(subject)
    config = run.config
    assert config is not None and isinstance(config.model.masks, TurnOver)
    several = [subject]
    for seed in range(1, MASKS):
        masks = dataclasses.replace(config.model.masks, seed=seed)
        other = dataclasses.replace(config, model=dataclasses.replace(config.model, masks=masks), checkpoints=1)
        several.append(train(other, out=run.path / "twins" / f"masks-{other.digest}", progress=False))
    yield f"AUROC of {SELF}, averaged", math.nan, _areas(subject, several)[SELF]


def _areas(subject: Subject, several: list[Subject]) -> dict[str, float]:
    table = detect_label_noise(example_scores(several, (SELF, "learning_speed")), resamples=2).to_frame()
    rows = table.loc[table["figure"] == "auroc"]
    return dict(zip(rows["score"], rows["value"], strict=True))


def truth(subject: Subject) -> Rows:
    """Rank correlation with Feldman–Zhang of self-influence, and of cheap scores of the same network without masks."""
    run = _run(subject)
    config = run.config
    assert config is not None
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, masks=None))
    plain = train(other, out=run.path / "twins" / f"plain-{other.digest}", progress=False)
    reference = f"feldman_zhang(networks={NETWORKS})"
    table = example_scores(plain, [*CHEAP, reference])
    own = named("example_scores", SELF)(subject)
    table = dataclasses.replace(table, scores=dict(table.scores) | {SELF: own})
    found = table.against(reference)
    for score, value in zip(found["score"], found["correlation"], strict=True):
        yield f"{CORRELATION}{score}", math.nan, float(value)


def removing(subject: Subject) -> Rows:
    """Test accuracy and loss after removing difficult, easy or random examples.

    Difficult and easy examples are correctly labelled ones with the highest and lowest self-influence; random ones are
    drawn from all. Retraining uses the same seed.
    """
    table = example_scores(subject, SELF)
    count = max(1, round(REMOVED * len(table.ids)))
    chosen = choose_removals(table, SELF, count, kinds=("difficult", "easy", "random"))
    found = data_value(subject, chosen, seeds=[_seed(subject)])
    for name, accuracy, loss in zip(found.names, found.accuracy[:, 0], found.loss[:, 0], strict=True):
        yield f"test without {name}", math.nan, float(accuracy)
        yield f"test loss without {name}", math.nan, float(loss)


def _seed(subject: Subject) -> int:
    config = _run(subject).config
    assert config is not None
    return config.seed


def fitting(table: pd.DataFrame) -> go.Figure:
    """Draw the fraction of examples fitted for good, over steps."""
    series = {"share fitted for good": "fitted from here on"}
    return curves(table, series, x_title="training step (log scale)", y_title="fraction of examples", log_x=True)


def remembering(table: pd.DataFrame) -> go.Figure:
    """Draw the mean self-influence and the loss of the own subnetworks over steps."""
    series = {"self-influence over training": "self-influence", "own loss over training": "loss of the own subnetwork"}
    return curves(table, series, x_title="training step (log scale)", y_title="mean over examples (nats)", log_x=True)


def correlations(table: pd.DataFrame) -> go.Figure:
    """Draw the correlation of each score with Feldman–Zhang memorization, highest first."""
    found = pooled(table, of_curves=False)
    found = found.loc[found["quantity"].str.startswith(CORRELATION)].sort_values("value", ascending=False)
    frame = found.assign(row=found["quantity"].str.removeprefix(CORRELATION), panel="with Feldman–Zhang memorization")
    zero = {"no correlation": dict.fromkeys(frame["panel"], 0.0)}
    return dots(frame, zero, x_title="Spearman's rank correlation")


def _run(subject: Subject) -> Run:
    assert isinstance(subject.run, Run)
    return subject.run
