"""Depths that are planted, and those of the analysis."""

import pytest
import torch
from held_layers import held
from plugin_names import example_score

from mechmem.analyses.layers.prediction_depth import PredictionDepth
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

N, CLASSES = 60, 3
TRAIN = torch.arange(N) < 40
TRUE = torch.arange(N) % CLASSES
NOISY = TRAIN & (torch.arange(N) % 8 == 0)
GIVEN = torch.where(NOISY, (TRUE + 1) % CLASSES, TRUE)


def points(labels, seed=0):
    """Far corners by label, with little noise."""
    of = torch.Generator().manual_seed(seed)
    corner = 100 * torch.nn.functional.one_hot(labels, CLASSES).double()
    return corner + torch.rand(len(labels), CLASSES, generator=of, dtype=torch.float64)


@pytest.fixture
def planted():
    """Of wrong labels, layers 0 and 1 hold the truth and layer 2 what was given; the network answers that."""
    logits = torch.eye(CLASSES, dtype=torch.float64)[GIVEN] * 20
    tables = (points(TRUE), points(TRUE, 1), points(GIVEN, 2))
    return held(GIVEN, TRUE, TRAIN, *tables, logits=logits, inputs=points(TRUE))


def test_memorized_examples_are_settled_late(planted):
    found = example_score("settled_depth(k=5)")(planted)
    assert torch.equal(found.values, torch.where(NOISY[:40], 3.0, 0.0).double())
    assert found.note == "5 depths, from inputs to softmax; 5 neighbours vote" and found.suspect == "high"


@pytest.mark.parametrize("settings", ["k=3", "k=3,distance=cosine", "k=100", "k=3,points=hidden.1 hidden.0"])
def test_equals_the_analysis_on_all_training_examples(planted, settings):
    planted.model.tables[0].data += 60 * torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1)).double()
    found = example_score(f"settled_depth({settings})")(planted)
    parts = dict(each.split("=") for each in settings.split(","))
    analysis = PredictionDepth(**{**parts, "k": int(parts["k"])})(planted)
    assert torch.equal(found.values, analysis.depth[:40].double()) and (
        parts["k"] == "100" or len(found.values.unique()) > 2
    )


def test_what_does_not_fit_is_refused(planted):
    with pytest.raises(MissingNeedError, match="two training examples"):
        labels = torch.tensor([0, 1, 0])
        example_score("settled_depth")(held(labels, labels, torch.arange(3) < 1, torch.zeros(3, 1)))
    with pytest.raises(ConfigError, match="neighbours"):
        example_score("settled_depth(k=0)")
    with pytest.raises(UnknownNameError, match="hook point"):
        example_score("settled_depth(points=nothing)")(planted)
