"""Confident learning: qualities by their formulas, on probabilities that no label of their own has entered."""

import sys

import numpy as np
import pytest
import torch
from plugin_names import example_score
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from torch import nn

import mechmem as mm
from mechmem.core.plugins import named
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.scores.confident_learning import ConfidentLearning

N = 90


def subject_of(n=N, classes=3, wrong=5, given=None):
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(n) % classes
    inputs = 3 * nn.functional.one_hot(true, 3).float() + 0.5 * torch.randn(n, 3, generator=draw)
    if given is None:
        given = true.clone()
        given[:wrong] = (given[:wrong] + 1) % classes
    torch.manual_seed(0)
    return mm.Subject(nn.Linear(3, 3), mm.ArrayTask(inputs, given, true, torch.arange(n) < n - 15, n_classes=3))


def test_wrong_labels_have_the_lowest_quality():
    found = example_score("confident_learning@inputs")(subject_of())
    assert sorted(found.most(5).tolist()) == [0, 1, 2, 3, 4]
    assert found.note.startswith("5 parts of inputs; ") and found.note.endswith(" label errors found")


def test_a_label_does_not_enter_its_own_probabilities():
    """The probabilities of an example are the same whatever its label, in parts that stay the same."""

    class Recorded(GaussianNB):
        seen = []

        def fit(self, X, y):
            super().fit(X, y)
            self.rows_ = {tuple(row) for row in X.tolist()}
            return self

        def predict_proba(self, X):
            self.seen.append(self.rows_ & {tuple(row) for row in X.tolist()})
            return super().predict_proba(X)

    subject = subject_of()
    ConfidentLearning(point="inputs", estimator=Recorded())(subject)
    assert Recorded.seen == [set()] * 5


def qualities(likely, labels):
    own = likely[np.arange(len(labels)), labels]
    others = likely.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    entropy = -(likely * np.log(likely)).sum(1) / np.log(likely.shape[1])
    weighed = entropy / own
    return {
        "self_confidence": own,
        "normalized_margin": (own - others.max(1) + 1) / 2,
        "confidence_weighted_entropy": np.log(weighed + 1) / weighed,
    }


@pytest.mark.parametrize("quality", ["self_confidence", "normalized_margin", "confidence_weighted_entropy"])
def test_qualities_are_those_of_the_paper(quality):
    subject = subject_of()
    inputs, given = subject.task.batch(subject.task.train_ids)
    with torch.no_grad():
        likely = subject.model(inputs).double().softmax(1).numpy()
    found = example_score(f"confident_learning({quality},probabilities=in_sample)")(subject)
    np.testing.assert_allclose(found.values.numpy(), qualities(likely, given.numpy())[quality], rtol=1e-6)
    assert found.note.startswith("in-sample probabilities of the network")


def test_an_estimator_of_one_s_own():
    forest = RandomForestClassifier(10, random_state=0)
    score = named("example_scores", "confident_learning@inputs", estimator=forest)
    first, second = score(subject_of()), score(subject_of())
    assert torch.equal(first.values, second.values) and not hasattr(forest, "classes_")
    assert first.score == "confident_learning(point=inputs,estimator=RandomForestClassifier)"
    assert ConfidentLearning(estimator=forest).label() == "confident_learning(estimator=RandomForestClassifier)"
    for wrong in (5, "forest", nn.Linear(2, 2)):
        with pytest.raises(ConfigError, match="estimator must be a classifier with fit and predict_proba"):
            ConfidentLearning(estimator=wrong)


def test_parts_are_stratified_and_seeded():
    subject = subject_of()
    first, other = (example_score(f"confident_learning(seed={seed})@inputs")(subject).values for seed in (0, 1))
    assert not torch.equal(first, other)
    # A class with one example is unknown where that is held out.
    given = torch.arange(N) % 2
    given[7] = 2
    found = example_score("confident_learning@inputs")(subject_of(given=given))
    assert found.values[7] == 0 and found.note.startswith("2 parts")


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(MissingNeedError, match="needs role:hidden"):
        example_score("confident_learning")(subject_of())
    with pytest.raises(MissingNeedError, match="at least two classes"):
        example_score("confident_learning@inputs")(subject_of(given=torch.zeros(N).long()))
    with pytest.raises(MissingNeedError, match="cannot be fitted to 'inputs'"):
        example_score("confident_learning@inputs")(subject_of(18, given=torch.arange(18) % 3))
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingNeedError, match=r"pip install \"mechmem\[label-errors\]\""):
        example_score("confident_learning@inputs")(subject_of())
