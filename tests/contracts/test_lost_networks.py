"""Logits that say nothing: NaN, and probabilities in their place. What depends on them is refused, or unknown."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from plugin_names import analysis, example_score, score

from mechmem.core.plugins import KINDS, plugins
from mechmem.errors import MechmemError
from mechmem.scorecard.audit import split_accuracies
from mechmem.scorecard.extractor import extractor

pytestmark = pytest.mark.unchecked

NAMES = [(kind, name) for kind in KINDS for name in plugins(kind) if name != "activation"]
PLUGIN = {"neuron_scores": score, "example_scores": example_score, "analyses": analysis}


def everywhere(subject):
    """The subject with a network all of whose weights are NaN."""
    model = subject.copy_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    return subject.with_model(model)


def at_two_examples(subject):
    """The subject with a network whose logits are NaN for a training and a test example."""
    ids = torch.stack([subject.task.train_ids[3], subject.task.test_ids[3]])
    model, gone = subject.copy_model(), subject.task.batch(ids)[0].flatten(1)

    def forward(self, x):
        same = (x.flatten(1)[:, None] == gone).all(2).any(1)
        return type(self).__base__.forward(self, x).masked_fill(same[:, None], torch.nan)

    model.__class__ = type("LostAtTwo", (type(model),), {"forward": forward})
    return subject.with_model(model)


def of_probabilities(subject):
    """The subject with a network that returns the softmax of its logits."""
    model = subject.copy_model()

    def forward(self, x):
        return type(self).__base__.forward(self, x).softmax(1)

    model.__class__ = type("OfProbabilities", (type(model),), {"forward": forward})
    return subject.with_model(model)


def measured(plugin, kind, subject):
    """What the plugin finds, as a table; of an extractor the four accuracies."""
    if kind in PLUGIN:
        return plugin(subject).to_frame()
    cells = split_accuracies(plugin(subject), subject.task)
    return pd.DataFrame({name: [cell.estimate and cell.estimate.value] for name, cell in cells.items()}, dtype=float)


@functools.cache
def of_whole(plugin, kind, subject):
    return measured(plugin, kind, subject)


@pytest.mark.parametrize("lost", [everywhere, at_two_examples, of_probabilities])
@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_what_depends_on_it_is_refused_or_unknown(kind, name, lost, chosen):
    plugin = PLUGIN[kind](name) if kind in PLUGIN else extractor(name)
    needs = plugin.wants() if kind in PLUGIN else {need for part in plugin.parts for need in part.wants()}
    subject = chosen(needs)
    try:
        found = measured(plugin, kind, lost(subject))
    except MechmemError:
        return
    wanted = of_whole(plugin, kind, subject)
    assert found.shape == wanted.shape
    for column in found:
        if pd.api.types.is_numeric_dtype(found[column]):
            here, there = (each[column].astype(float).to_numpy() for each in (found, wanted))
            assert (np.isnan(here) | np.isclose(here, there, rtol=1e-4, equal_nan=True)).all(), column
