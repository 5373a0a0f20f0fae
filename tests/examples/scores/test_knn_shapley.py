"""KNN-Shapley scores: wrong labels in clusters, every example as a target but for itself, blocks."""

import pytest
import torch
from plugin_names import example_score
from torch import nn

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.examples.scores import knn_shapley as module
from mechmem.math.attribution import knn_shapley

N = 60


def subject_of(n=N):
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(n) % 3
    inputs = 5 * nn.functional.one_hot(true, 3) + 0.3 * torch.randn(n, 3, generator=draw)
    given = true.clone()
    given[:4] = (given[:4] + 1) % 3
    return mm.Subject(nn.Linear(3, 3), mm.ArrayTask(inputs, given, true, torch.arange(n) < n - 10))


def test_wrong_labels_in_clusters_have_the_lowest_value():
    found = example_score("knn_shapley@inputs")(subject_of())
    assert (
        sorted(found.most(4).tolist()) == [0, 1, 2, 3] and (found.values[:4] < 0).all() and (found.values[4:] > 0).all()
    )
    assert found.note == "5 votes at inputs"


def test_a_score_is_the_mean_over_the_other_examples(monkeypatch):
    subject = subject_of()
    inputs, given = subject.task.batch(subject.task.train_ids)
    expected = torch.zeros(N - 10, dtype=torch.float64)
    for target in range(N - 10):
        others = torch.arange(N - 10) != target
        distances = (inputs[target] - inputs[others]).norm(dim=1)
        expected[others] += knn_shapley(distances[None], (given[others] == given[target])[None], 3)[0]
    for at_once in (2**22, 137):
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        found = example_score("knn_shapley(inputs,k=3)")(subject).values
        torch.testing.assert_close(found, expected / (N - 11), rtol=1e-6, atol=1e-9)


def test_influence_on_targets_adds_up_to_the_vote():
    subject = subject_of()
    found = mm.influence(subject, method="knn_shapley@inputs")
    (inputs, given), (tests, truth) = (subject.task.batch(each) for each in (found.sources, found.targets))
    nearest = torch.cdist(tests, inputs).argsort(1)[:, :5]
    torch.testing.assert_close(found.values.sum(1), (given[nearest] == truth[:, None]).float().mean(1))
    # A training example is no player in its own prediction.
    own = mm.influence(subject, targets=found.sources[:6], method="knn_shapley@inputs")
    assert (own.values.diagonal() == 0).all() and found.unit == "share of votes"


def test_a_layer_may_be_named():
    subject = mm.attach(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), "1")
    subject = mm.Subject(subject, subject_of().task)
    with pytest.raises(MissingNeedError, match="needs role:hidden"):
        example_score("knn_shapley")(mm.Subject(nn.Linear(3, 3), subject.task))
    found = example_score("knn_shapley@1.hook_out")(subject)
    assert found.note == "5 votes at 1.hook_out" and torch.isfinite(found.values).all()
    with pytest.raises(MissingNeedError, match="at least two training examples"):
        example_score("knn_shapley@inputs")(subject_of(11))
