"""Which layers and which examples are measured."""

import dataclasses

import pytest
import torch
from held_layers import held

import mechmem as mm
from mechmem.analyses.layers.feature_norms import FeatureNorms
from mechmem.errors import ActivationError, ConfigError, MissingNeedError, UnknownNameError
from mechmem.layers.analysis import some
from mechmem.layers.features import over_layers

LABELS = torch.tensor([0, 1, 0, 1, 0, 1])
TRAIN = torch.tensor([True] * 4 + [False] * 2)


def subject(*tables, given=LABELS, true=LABELS):
    tables = tables or (torch.randn(6, 3), torch.randn(6, 2, 4, 4), torch.randn(6, 5))
    return held(given, true, TRAIN, *tables)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("", [0, 1, 2]),
        ("layers.*.hook_hidden", [0, 1, 2]),
        ("hidden.2 hidden.0", [0, 2]),
        ("layers.1.hook_hidden hidden.1", [1]),
    ],
)
def test_layers_come_in_the_order_in_which_they_fire(points, expected):
    names = tuple(f"layers.{number}.hook_hidden" for number in expected)
    assert FeatureNorms(points).layers(subject()) == FeatureNorms(points)(subject()).layers == names


def test_inputs_come_first_and_only_maps_are_averaged():
    found = FeatureNorms("hidden.0 hidden.1 inputs", pool="mean")(subject())
    assert found.layers == ("inputs", "layers.0.hook_hidden", "layers.1.hook_hidden")
    assert found.features.tolist() == [1, 3, 2]
    assert FeatureNorms("hidden.1")(subject()).features.tolist() == [32]
    assert FeatureNorms("inputs")(dataclasses.replace(subject(), roles=mm.Roles())).layers == ("inputs",)
    table = torch.randn(6, 2, 4, 4)
    points, ids = ("layers.0.hook_hidden",), torch.arange(6)
    averaged, logits = over_layers(subject(table), points, ids, lambda _, held: held, "mean")
    assert torch.allclose(averaged[points[0]], table.mean((2, 3))) and logits.shape == (0, 2)


def test_inputs_need_no_network_and_keep_their_rows_and_columns():
    pictures = torch.randn(6, 2, 3, 3)
    given = subject()
    shown = dataclasses.replace(given, task=mm.ArrayTask(pictures, LABELS, LABELS, TRAIN))
    for pool in ("none", "mean"):
        found, _ = over_layers(shown, ("inputs",), torch.arange(6), lambda _, held: held, pool)
        assert torch.equal(found["inputs"], pictures.flatten(1))
    found, logits = over_layers(given, ("inputs",), torch.arange(6), lambda _, held: held, logits=True)
    assert torch.equal(logits, given.model.logits)


def test_a_network_without_logits_has_layers():
    silent = subject()
    silent.model.logits = torch.nn.Parameter(torch.zeros(6, 5), requires_grad=False)
    assert len(FeatureNorms()(silent).layers) == 3
    with pytest.raises(ConfigError, match="the model must return logits"):
        over_layers(silent, silent.roles.hidden, silent.task.ids, lambda _, held: held, logits=True)


def test_what_cannot_be_measured_is_refused():
    bare = dataclasses.replace(subject(), roles=mm.Roles())
    with pytest.raises(MissingNeedError, match="'feature_norms' needs role:hidden"):
        FeatureNorms()(bare)
    assert FeatureNorms("layers.0.hook_hidden")(bare).layers == ("layers.0.hook_hidden",)
    with pytest.raises(UnknownNameError, match="no hook point 'layers.9.hook_hidden'"):
        FeatureNorms("layers.9.hook_hidden")(bare)
    with pytest.raises(UnknownNameError, match="pooling"):
        FeatureNorms(pool="max")
    with pytest.raises(ActivationError, match="not finite"):
        FeatureNorms()(subject(torch.full((6, 2), torch.nan)))


def test_a_point_that_fires_twice_is_no_layer():
    twice = subject()
    twice.model.forward = lambda x: [twice.model.layers[0].hook_hidden(x) for _ in range(2)][0]
    with pytest.raises(ActivationError, match="fires several times"):
        FeatureNorms("layers.0.*")(twice)


def test_some_are_drawn_with_the_seed_and_kept_in_order():
    ids = torch.arange(100) * 3
    drawn = some(ids, 10, 0)
    assert len(drawn) == 10 and bool((drawn.diff() > 0).all()) and torch.isin(drawn, ids).all()
    assert torch.equal(drawn, some(ids, 10, 0)) and not torch.equal(drawn, some(ids, 10, 1))
    assert torch.equal(some(ids, 1000, 0), ids)
