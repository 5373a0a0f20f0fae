"""Neuron sets and scores: algebra of sets, order, shares, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.core.scores import NeuronScores, NeuronSet
from mechmem.errors import ConfigError, ScoreError

members = st.sets(st.integers(0, 19))


def scores(*values):
    return NeuronScores("s", torch.tensor(values), "hook_hidden")


@given(members, members)
def test_set_algebra_is_that_of_python_sets(left, right):
    a, b = (NeuronSet.of(one, 20, "x") for one in (left, right))
    assert set((a & b).neurons.tolist()) == left & right
    assert set((a | b).neurons.tolist()) == left | right
    assert set((a - b).neurons.tolist()) == left - right
    assert set((~a).neurons.tolist()) == set(range(20)) - left
    assert len(a) == len(left)


def test_sets_of_different_layers_do_not_mix():
    with pytest.raises(ScoreError, match="different layers"):
        NeuronSet.of([1], 4, "x") & NeuronSet.of([1], 4, "y")
    with pytest.raises(ScoreError, match="different layers"):
        NeuronSet.of([1], 4, "x") | NeuronSet.of([1], 5, "x")
    with pytest.raises(ScoreError, match=r"numbered 0 … 3"):
        NeuronSet.of([4], 4, "x")


def test_order_breaks_ties_by_number_and_no_neuron_stands_at_both_ends():
    ranked = scores(2.0, 1.0, 2.0, 0.0)
    assert ranked.order("low").tolist() == [3, 1, 0, 2]
    assert ranked.order("high").tolist() == [2, 0, 1, 3]
    alike = scores(*[1.0] * 6)
    assert not len(alike.take(0.5) & alike.take(0.5, "low"))


def test_shares_of_the_neurons():
    ranked = scores(2.0, 1.0, 3.0, 0.0)
    assert ranked.take(0.5).neurons.tolist() == [0, 2]
    assert ranked.take(0.5, "low").neurons.tolist() == [1, 3]
    assert not len(ranked.take(0.5) & ranked.take(0.5, "low"))
    assert len(ranked.take(1.0)) == 4
    with pytest.raises(ScoreError, match="leaves an empty set"):
        ranked.take(0.05)
    with pytest.raises(ConfigError, match="fraction of neurons"):
        ranked.take(1.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_cannot_rank_are_refused(bad):
    with pytest.raises(ScoreError, match=r"1 of 3 scores are not finite \(neuron 1"):
        scores(0.0, bad, 1.0)


@pytest.mark.parametrize("mask", [torch.tensor([0, 1, 1]), torch.ones(2, 3, dtype=torch.bool)])
def test_a_mask_is_one_truth_value_per_neuron(mask, unchecked_shapes):
    """On whole numbers ~ is arithmetic: the complement would be a set of everything."""
    with pytest.raises(ScoreError, match="one truth value per neuron"):
        NeuronSet(mask, "x")


@pytest.mark.parametrize("neurons", [[True, False], [1.5], torch.tensor([True, True])])
def test_neurons_are_named_by_number(neurons, unchecked_shapes):
    with pytest.raises(ScoreError, match="neurons are given by number"):
        NeuronSet.of(neurons, 4, "x")
    with pytest.raises(ScoreError, match="each once"):  # as in a mask of whole numbers
        NeuronSet.of([0, 1, 0, 0], 4, "x")
    assert NeuronSet.of(torch.tensor([3, 1]), 4, "x").neurons.tolist() == [1, 3]


def test_sets_with_the_same_members_are_equal():
    one, other = NeuronSet.of([3, 1], 4, "x"), ~NeuronSet.of([0, 2], 4, "x")
    assert one == other and hash(one) == hash(other) and {one, other} == {one}
    assert one != ~other and one != NeuronSet.of([1, 3], 4, "y") and one != NeuronSet.of([1, 3], 5, "x") and one != 3


def test_scores_of_any_precision_are_tabulated_and_drawn():
    values = torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True)
    ranked = NeuronScores("s", values, "hook_hidden")
    assert ranked.to_frame()["score"].tolist() == [1, 2] and len(ranked.plot().data) == 1


def test_sets_scores_and_results_print_in_a_line() -> None:
    found = mm.neuron_scores(mm.planted_network(11).subject, ["ipr", "weight_norm"])
    assert repr(found["ipr"].take(0.5)) == "NeuronSet(100 of 200 neurons of hook_hidden)"
    assert "values=torch.float64 (2, 200)" in repr(found) and len(repr(found)) < 400
    assert repr(found).startswith("NeuronTable(names=('ipr', 'weight_norm')")
