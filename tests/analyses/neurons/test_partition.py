"""The partition by score: planted neurons recovered, sets disjoint, sizes chosen without a look at test labels."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mechmem as mm
from mechmem.analyses.neurons.partition import Partition
from mechmem.errors import ConfigError, MissingNeedError, ScoreError


@pytest.fixture(scope="module")
def net():
    return mm.planted_network(7, memorized_fraction=0.3, train_fraction=0.7)


def accuracy(result, network, extractor="raw"):
    frame = result.to_frame()
    rows = frame[(frame["network"] == network) & (frame["extractor"] == extractor)]
    return rows.set_index("split")["accuracy"]


def test_planted_neurons_are_recovered_exactly(net):
    share = net.memorizing.double().mean().item()
    found = Partition(top=1 - share, bottom=share)(net.subject)
    assert torch.equal(found.top.mask, ~net.memorizing) and torch.equal(found.bottom.mask, net.memorizing)
    whole, rule, memory = (accuracy(found, name) for name in ("f", "f^G", "f^R"))
    assert whole["train_noisy"] == memory["train_noisy"] == 1
    assert rule["test"] == 1 and rule["train_noisy"] == 0 and memory["test"] < 0.5
    assert accuracy(found, "f^G", "frequency")["test"] == 1
    assert found.chosen == (False, False)


def test_chosen_sets_are_pure_and_the_first_best_of_their_curves(net):
    found = Partition(fractions=len(net.memorizing))(net.subject)
    assert not (found.top.mask & net.memorizing).any()
    rule, memory = (accuracy(found, name) for name in ("f^G", "f^R"))
    assert rule["train_clean"] == 1 and rule["train_noisy"] == 0 and memory["train_noisy"] == 1
    assert not (found.bottom.mask & ~net.memorizing).any()
    table = found.curve_frame().pivot_table(index=["network", "kept"], columns="split", values="accuracy")
    gap = table["train_clean"] - table["train_noisy"]
    most = len(net.memorizing) - 1
    assert len(found.top) == gap["f^G"].loc[:most].idxmax()
    assert len(found.bottom) == (-gap["f^R"]).loc[: most + 1 - len(found.top)].idxmax()


@pytest.mark.slow
@settings(max_examples=12)
@given(st.integers(0, 1000), st.integers(2, 40), st.sampled_from(["ipr", "random(seed=3)", "strength"]))
def test_sets_are_disjoint_and_not_empty(seed, fractions, by):
    net = mm.planted_network(5, memorized_fraction=0.4, train_fraction=0.7, width=6, seed=seed)
    found = Partition(by=by, fractions=fractions)(net.subject)
    assert not len(found.top & found.bottom) and len(found.top) and len(found.bottom)


def test_equal_scores_put_no_neuron_in_both_sets(net):
    subject = net.subject.with_model(net.subject.copy_model())
    with torch.no_grad():
        subject.model.W_in.fill_(1)
    found = Partition(by="ipr(of=u)", top=0.5, bottom=0.5)(subject)
    assert not len(found.top & found.bottom) and len(found.top | found.bottom) == len(net.memorizing)


def test_test_labels_choose_nothing(net):
    task = net.subject.task
    train = torch.zeros(len(task.ids), dtype=torch.bool)
    train[task.train_ids] = True
    changed = mm.ArrayTask(task.operands, task.given(task.ids), task.true(task.ids), train, operation="add")
    changed._true[task.test_ids] = 0
    one, other = (Partition()(dataclasses.replace(net.subject, task=each)) for each in (task, changed))
    assert torch.equal(one.top.mask, other.top.mask) and torch.equal(one.bottom.mask, other.bottom.mask)


def test_what_it_is_told_depends_on_what_it_chooses():
    assert "noise_mask" in Partition().told() and "slopes" in Partition().told()
    assert "noise_mask" not in Partition(top=0.5, bottom=0.5).told()
    assert "slopes" not in Partition(extractor="raw").told()


def test_what_cannot_be_split_is_refused(net):
    with pytest.raises(ScoreError, match="empty"):
        Partition(top=0.001)(net.subject)
    with pytest.raises(ConfigError, match="overlap"):
        Partition(top=0.6, bottom=0.6)
    with pytest.raises(MissingNeedError, match="correct and wrong"):
        Partition()(mm.planted_network(5).subject)
    assert len(Partition(top=0.5, bottom=0.5)(mm.planted_network(5).subject).top) == 40


def test_the_figure_marks_the_cuts(net):
    figure = Partition(top=0.5, bottom=0.2)(net.subject).plot()
    texts = [note.text for note in figure.layout.annotations]
    assert texts == ["f<sup>G</sup>: highest, given: 50%", "f<sup>R</sup>: lowest, given: 20%"]
    assert figure.layout.xaxis.title.text == "share of neurons kept, by ipr" and len(figure.layout.shapes) == 2
