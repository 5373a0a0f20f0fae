"""Measurements of the paper's networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from mechmem.analyses.dynamics import over_training
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.layers.features import INPUTS
from mechmem.layers.probe import Labels
from mechmem.layers.probe_layers import LayerProbes, probe_layers
from mechmem.recipes.measures import NAMES, Rows, accuracies
from mechmem.recipes.papers.ketha_2025.runs import MEMORIZING
from mechmem.scorecard.extractor import extractor
from mechmem.tasks.build import build_task
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.image_config import ImageConfig
from mechmem.training.run import Run

MASC, TRUE_MASC, CLEAN_MASC = "MASC", "MASC by true labels", "MASC of the clean-trained network"
"""Probe with τ = .99, fitted to the given labels, to the true ones, and to given ones on a clean-trained network."""

BEFORE, ON_PIXELS = f"{MASC} before training", f"{MASC} on pixels"
"""The same probe on the same layer of the untrained network, and on the raw inputs."""

NEIGHBOURS = "knn@inputs"
"""A vote of the given labels of the 20 nearest training images, without a network."""

LAST, THIRD = "hidden.3", "hidden.2"
"""The last layer of the MLP, and the layer named fc3 in the authors' code."""

LAST_MASC = f"{MASC} on the last layer"
GIVEN_READOUT, TRUE_READOUT = f"linear_probe@{LAST}", f"linear_probe(labels=true)@{LAST}"
"""The readout alone, refitted to given or true labels by logistic regression."""


def _once(part: Callable[[Subject], Rows]) -> Callable[[Subject], Rows]:
    """Compute a run's rows once for all claims that need them."""
    return lambda subject: subject.memo(f"ketha_2025 {part.__name__}", lambda: list(part(subject)))


@_once
def network(subject: Subject) -> Rows:
    """The network's own accuracies, its peak on test during training (chosen on test), and ξ."""
    yield from accuracies("raw")(subject)
    yield "xi", math.nan, _task(subject).noise.fraction
    yield "peak test", math.nan, float(np.nanmax(_run(subject).history()["test"].to_numpy(float)))


def layers(title: str, labels: Labels = "given") -> Callable[[Subject], Rows]:
    """Test accuracy of MASC by layer, counted from 1: after training, before training, and on the pixels.

    Single figures are of the layer chosen by cross-validation, the same layer before training, and the layer that is
    best on test (the authors' choice).
    """

    def rows(subject: Subject) -> Rows:
        found = _probed(subject, labels)
        table = found.table()
        inside = list(found.layers[1:])
        for column, after in (("trained", ""), ("untrained", " before training")):
            values = table[column].loc[inside]
            for number, value in enumerate(values, 1):
                yield f"{title}{after}, by layer", float(number), float(value)
            yield f"{title}{after}", math.nan, float(values[found.chosen]) if found.chosen else math.nan
            yield f"{title}{after}, best layer", math.nan, float(values.max())
        yield f"{title} on pixels", math.nan, float(table.loc[INPUTS, "trained"])

    return rows


def thirds(subject: Subject) -> Rows:
    """Mean test accuracy of MASC over the first third of the layers and over the last third."""
    values = _probed(subject, "given").table()["trained"].iloc[1:-1]
    third = max(1, len(values) // 3)
    yield f"{MASC}, first third of the layers", math.nan, float(values.iloc[:third].mean())
    yield f"{MASC}, last third of the layers", math.nan, float(values.iloc[-third:].mean())


def readouts(*names: str) -> Callable[[Subject], Rows]:
    """Test accuracy of each readout, computed once for all claims that need it."""

    def rows(subject: Subject) -> Rows:
        for name in names:
            yield f"test of {name}", math.nan, _test(subject, name)

    return rows


def velpic(subject: Subject) -> Rows:
    """Largest difference over layers between the test accuracies of VeLPIC and of MASC with one component."""
    names = [f"hidden.{number}" for number in range(len(subject.roles.hidden))]
    pairs = [(_test(subject, f"velpic@{name}"), _test(subject, f"masc(components=1)@{name}")) for name in names]
    for number, (first, second) in enumerate(pairs, 1):
        yield "VeLPIC, by layer", float(number), first
        yield "MASC of one component, by layer", float(number), second
    yield "|VeLPIC − MASC of one component|", math.nan, float(np.abs(np.diff(pairs)).max())


@_once
def clean_trained(subject: Subject) -> Rows:
    """Test accuracy of MASC by corrupted labels on a network trained on true ones, by noise level.

    The corrupted labels are those of the arm with the same noise and seed. A network trained on corrupted labels has no
    such row.
    """
    known = _task(subject)
    for xi in () if known.noise.fraction else MEMORIZING:
        task = build_task(dataclasses.replace(known, noise=LabelNoise(xi, "any")))
        found = probe_layers(subject.model, task, roles=subject.roles)
        values = found.table()["trained"].loc[list(found.layers[1:])]
        yield CLEAN_MASC, xi, float(values[found.chosen]) if found.chosen else math.nan
        yield f"{CLEAN_MASC}, best layer", xi, float(values.max())


@_once
def during_training(subject: Subject) -> Rows:
    """Test accuracy of the network and of MASC on its last layer at each checkpoint, and their final drops.

    Both drops are relative to the checkpoint with the network's best test accuracy, initialisation excluded.
    """
    titles = {"raw": "network", f"masc@{LAST}": LAST_MASC}
    found = over_training(subject, [extractor(name) for name in titles])
    curve: dict[str, pd.Series] = {}
    for name, title in titles.items():
        frame = found.frame(name)
        tests = frame.loc[frame["split"] == "test"].set_index("step")["value"]
        curve[title] = tests
        for step, value in tests.items():
            yield f"{title} during training", float(str(step)), float(value)
    own = curve["network"].drop(index=0)
    best = own.idxmax()
    for title, tests in curve.items():
        yield f"{title}: lost since the network's peak", math.nan, float(tests[best] - tests.iloc[-1])
    history = _run(subject).history()
    for split in ("train_clean", "train_noisy"):
        for step, value in zip(history["step"], history[split], strict=True):
            yield f"{NAMES[split]} during training", float(step), float(value)


def _probed(subject: Subject, labels: Labels) -> LayerProbes:
    return subject.memo(f"ketha_2025 layers {labels}", lambda: probe_layers(subject, labels=labels))


def _test(subject: Subject, name: str) -> float:
    def measured() -> float:
        try:
            return next(value for quantity, _, value in accuracies(name)(subject) if quantity == f"test of {name}")
        except MissingNeedError:
            # One failing readout (say, a singular class covariance) must not discard the other claims' measurements.
            return math.nan

    return subject.memo(f"ketha_2025 test of {name}", measured)


def _task(subject: Subject) -> ImageConfig:
    config = _run(subject).config
    assert config is not None and isinstance(config.task, ImageConfig)
    return config.task


def _run(subject: Subject) -> Run:
    assert isinstance(subject.run, Run)
    return subject.run
