"""Measurements of the paper's networks, and their figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.analyses.dynamics import over_training
from mechmem.analyses.layers.layer_similarity import CLEAN, LayerSimilarity
from mechmem.analyses.layers.view_invariance import ViewInvariance
from mechmem.core.subject import Subject
from mechmem.layers.features import INPUTS
from mechmem.layers.probe_layers import LayerProbes, probe_layers
from mechmem.models.networks.image_config import ImageModelConfig
from mechmem.models.reading.twins import twin_subject
from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.lines import lines, plain_style
from mechmem.plotting.matrices import Panel, heatmaps
from mechmem.plotting.style import SplitStyle
from mechmem.recipes.measures import NAMES, Rows, curves, pooled
from mechmem.tasks.image_config import ImageConfig
from mechmem.training.run import Run

PROBE = "knn"
"""A vote of the true labels of the 20 nearest training images by angle."""

ENCODER, PROJECTOR = "probe of the encoder", "probe of the projector"
BEFORE = " before training"
PIXELS = "probe of the pixels"
LEAST = "least gain of an encoder layer"
GAIN = "gain of the projector"
LEAST_RATIO, LAST_RATIO = "least ratio of an encoder layer", "ratio of the projector"
INVARIANCE = "invariance of the encoder"
CKA = "CKA with the clean-label twin, by layer"


def probes(subject: Subject) -> Rows:
    """Test accuracy of the probe by layer, counted from 1, before and after training; and on the pixels.

    The projector is the last layer, the encoder the layer before it; encoder layers are all layers but the projector.
    """
    table = _probed(subject).table()
    values = {name: table[name].loc[list(subject.roles.hidden)].to_numpy() for name in ("trained", "untrained")}
    for after, name in (("", "trained"), (BEFORE, "untrained")):
        for number, value in enumerate(values[name], 1):
            yield f"probe{after}, by layer", float(number), float(value)
        yield f"{ENCODER}{after}", math.nan, float(values[name][-2])
        yield f"{PROJECTOR}{after}", math.nan, float(values[name][-1])
    gains = values["trained"] - values["untrained"]
    yield LEAST, math.nan, float(gains[:-1].min())
    yield GAIN, math.nan, float(gains[-1])
    yield PIXELS, math.nan, float(table.loc[INPUTS, "trained"])


def settings(subject: Subject) -> Rows:
    """Number of fixed views, magnitude of RandAugment, and the network's number of parameters."""
    config = _run(subject).config
    assert config is not None and isinstance(config.task, ImageConfig) and isinstance(config.model, ImageModelConfig)
    yield "views", math.nan, float(config.task.augmentation.views)
    yield "magnitude", math.nan, float(config.task.augmentation.randaugment)
    yield "parameters", math.nan, float(sum(parameter.numel() for parameter in subject.model.parameters()))


def during_training(subject: Subject) -> Rows:
    """Test accuracy of the probe on encoder and projector at each checkpoint, and the fraction of labels fitted."""
    hidden = subject.roles.hidden
    titles = {ENCODER: hidden[-2], PROJECTOR: hidden[-1]}
    names = {title: f"{PROBE}(labels=true)@{point}" for title, point in titles.items()}
    found = over_training(subject, list(names.values()))
    for title, name in names.items():
        frame = found.frame(name)
        tests = frame.loc[frame["split"] == "test"]
        for step, value in zip(tests["step"], tests["value"], strict=True):
            yield f"{title} during training", float(step), float(value)
    history = _run(subject).history()
    for step, value in zip(history["step"], history["train_noisy"], strict=True):
        yield f"{NAMES['train_noisy']} during training", float(step), float(value)


def clean_twin(subject: Subject) -> Rows:
    """Ratio of the probe's accuracy by layer to that on the clean-label twin, and the CKA of the two on test."""
    twin, reason = twin_subject(subject, CLEAN)
    assert twin is not None, reason
    ours, theirs = (
        each.table()["trained"].loc[list(subject.roles.hidden)].to_numpy()
        for each in (_probed(subject), probe_layers(twin, probe=PROBE, labels="true", folds=0))
    )
    ratios = ours / np.maximum(theirs, 1e-9)
    for number, (value, ratio) in enumerate(zip(theirs, ratios, strict=True), 1):
        yield "probe of the twin, by layer", float(number), float(value)
        yield "ratio, by layer", float(number), float(ratio)
    yield LEAST_RATIO, math.nan, float(ratios[:-1].min())
    yield LAST_RATIO, math.nan, float(ratios[-1])
    frame = LayerSimilarity()(subject).to_frame()
    chosen = frame.loc[(frame["other"] == CLEAN) & (frame["split"] == "test")]
    for number, value in enumerate(chosen["value"], 1):
        yield CKA, float(number), float(value)


def invariance(subject: Subject) -> Rows:
    """Similarity of new augmented views of a test image by layer, before and after training."""
    frame = ViewInvariance()(subject).to_frame()
    tests = frame.loc[frame["part"] == "test"]
    for after, name in (("", "trained"), (BEFORE, "untrained")):
        values = tests.loc[tests["network"] == name, "invariance"].to_numpy()
        for number, value in enumerate(values, 1):
            yield f"invariance{after}, by layer", float(number), float(value)
        yield f"{INVARIANCE}{after}", math.nan, float(values[-2])


def by_layer(table: pd.DataFrame) -> go.Figure:
    """Draw the probe by layer before and after training, one panel per arm."""
    series = {"probe, by layer": "trained", f"probe{BEFORE}, by layer": "before training"}
    series |= {"probe of the twin, by layer": "trained on true labels"}
    return _layers(table, series, "probe accuracy on test")


def twin_by_layer(table: pd.DataFrame) -> go.Figure:
    """Draw the probe by layer of the network and of its twin, and their CKA."""
    series = {"probe, by layer": "probe, random labels", "probe of the twin, by layer": "probe, true labels"}
    series |= {CKA: "CKA of the two"}
    return _layers(table, series, "accuracy on test, or CKA")


def invariance_by_layer(table: pd.DataFrame) -> go.Figure:
    """Draw invariance by layer before and after training."""
    series = {"invariance, by layer": "trained", f"invariance{BEFORE}, by layer": "before training"}
    return _layers(table, series, "invariance to augmentation")


def training(table: pd.DataFrame) -> go.Figure:
    """Draw the probe and the fitted labels over training."""
    series = {f"{name} during training": name for name in (ENCODER, PROJECTOR)}
    series |= {f"{NAMES['train_noisy']} during training": "wrong labels fitted"}
    return curves(table, series, x_title="training step (log scale)", log_x=True)


def against(setting: str, x_title: str, *, log_x: bool = False) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw the probe and the fitted labels of every arm against a setting."""
    titles = {
        ENCODER: "probe of the encoder (test)",
        f"{ENCODER}{BEFORE}": "encoder before training (test)",
        PROJECTOR: "probe of the projector (test)",
        "train": "labels fitted (train)",
    }

    def draw(table: pd.DataFrame) -> go.Figure:
        found = pooled(table, of_curves=False)
        known = found.loc[found["quantity"] == setting]
        place = dict(zip(known["arm"], known["value"], strict=True))
        parts = [found.loc[found["quantity"] == quantity].assign(series=title) for quantity, title in titles.items()]
        drawn = pd.concat(parts)
        drawn = drawn.assign(x=[place[arm] for arm in drawn["arm"]]).sort_values("x", kind="stable")
        return lines(drawn, x_title=x_title, y_title="accuracy", log_x=log_x)

    return draw


def frontier(table: pd.DataFrame) -> go.Figure:
    """Draw the fraction of labels fitted over the numbers of parameters and of independent views."""
    single = table.loc[table["x"].isna()]
    wide = single.pivot_table(index="arm", columns="quantity", values="value", aggfunc="mean", sort=False)
    grid = wide.pivot_table(index="parameters", columns="views", values="train", aggfunc="mean")
    x, y = ([f"{each:,g}" for each in axis] for axis in (grid.columns, grid.index))
    figure = heatmaps(
        [Panel("fraction of labels fitted", grid.to_numpy(float), np.array(x), np.array(y))],
        x_title="views per image, each with its own label",
        y_title="parameters of the network",
        z_title="accuracy on the<br>training set",
        hover="%{x} views, %{y} parameters: %{z:.3f}<extra></extra>",
    )
    return figure.update_xaxes(type="category").update_yaxes(type="category")


def both_probes(table: pd.DataFrame) -> go.Figure:
    """Draw the probes and the fitted labels of every arm as single figures."""
    quantities = (ENCODER, f"{ENCODER}{BEFORE}", PROJECTOR, f"{PROJECTOR}{BEFORE}", PIXELS, "train")
    found = pooled(table, of_curves=False)
    found = found.loc[found["quantity"].isin(quantities)]
    styles: dict[str, SplitStyle] = {name: plain_style(name, number) for number, name in enumerate(quantities)}
    return dot_plot(found.rename(columns={"arm": "extractor", "quantity": "series"}), styles=styles)


def _layers(table: pd.DataFrame, series: Mapping[str, str], y_title: str) -> go.Figure:
    figure = curves(table, series, x_title="layer (the last is the projector)", y_title=y_title)
    return figure.update_xaxes(dtick=1)


def _probed(subject: Subject) -> LayerProbes:
    return subject.memo("anagnostidis_2023 probes", lambda: probe_layers(subject, probe=PROBE, labels="true", folds=0))


def _run(subject: Subject) -> Run:
    assert isinstance(subject.run, Run)
    return subject.run
