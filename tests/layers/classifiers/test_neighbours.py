"""Neighbours by angle against scikit-learn's brute force, and against a stable sort in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from mechmem.layers.classifiers import neighbours
from mechmem.layers.classifiers.neighbours import CosineNeighbours


def sorted_votes(X, y, points, k):
    """Shares of the votes: cosines in float64, equal to 12 decimals, the first training example first."""
    unit = [a.astype(float) / np.maximum(np.linalg.norm(a.astype(float), axis=1), 1e-300)[:, None] for a in (points, X)]
    order = np.argsort(-(unit[0] @ unit[1].T).round(12), axis=1, kind="stable")[:, :k]
    return np.stack([(y[order] == each).sum(1) for each in np.unique(y)], 1) / order.shape[1]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 150),
    features=st.one_of(st.integers(1, 20), st.integers(250, 300)),
    k=st.integers(1, 40),
    kind=st.sampled_from(["spread", "whole numbers", "almost parallel"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_neighbours_are_those_of_a_stable_sort(seed, n, features, k, kind, dtype):
    draw = np.random.default_rng(seed)
    X, points, y = draw.normal(size=(n, features)), draw.normal(size=(30, features)), draw.integers(4, size=n)
    if kind == "whole numbers":  # many equal angles
        X, points = X.round(), points.round()
    if kind == "almost parallel":  # angles that float32 cannot tell apart
        X, points = 1 + 1e-4 * X, 1 + 1e-4 * points
    X[draw.random(n) < 0.2], points[:3] = 0, 0
    X[draw.random(n) < 0.2] = X[0]
    X, points = X.astype(dtype), points.astype(dtype)
    found = CosineNeighbours(k).fit(X, y)
    votes = sorted_votes(X, y, points, k)
    np.testing.assert_allclose(found.scores(points), votes, atol=1e-12)
    assert (found.predict(points) == found.classes_[votes.argmax(1)]).all()


@pytest.mark.parametrize("k", [1, 2, 7, 20])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [40, 400])
def test_scikit_learn_agrees_wherever_angles_differ(k, dtype, width):
    draw = np.random.default_rng(k)
    X, points, y = draw.normal(size=(300, width)), draw.normal(size=(200, width)), draw.integers(3, size=300)
    X[5] = 0
    X, points = X.astype(dtype), points.astype(dtype)
    reference = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(X.astype(float), y)
    found = CosineNeighbours(k).fit(X, y)
    shares = reference.predict_proba(points.astype(float))
    np.testing.assert_allclose(found.scores(points), shares, atol=1e-12)
    assert (found.predict(points) == reference.predict(points.astype(float))).all()
    level = (shares == shares.max(1, keepdims=True)).sum(1) > 1
    assert level.any() or k == 1  # equal votes are among them, and go to the lowest class in both


def test_more_equal_neighbours_than_are_looked_at_first(monkeypatch):
    monkeypatch.setattr(neighbours, "SPARE", 2)
    X = np.concatenate([np.tile([1.0, 0], (30, 1)), np.tile([0, 1.0], (5, 1))])
    y = np.concatenate([np.tile([1, 0, 2], 10), np.full(5, 3)])
    found = CosineNeighbours(4).fit(X, y)
    np.testing.assert_allclose(
        found.scores([[2.0, 0], [0, 0], [0, 3.0]]), sorted_votes(X, y, np.array([[2.0, 0], [0, 0], [0, 3.0]]), 4)
    )
    assert found.predict([[2.0, 0]]) == [1]  # the first four are 1, 0, 2, 1
    assert found.predict([[0, 3.0]]) == [3]


def test_all_vote_where_there_are_fewer():
    found = CosineNeighbours(20).fit([[1.0, 0], [0, 1], [0, 2]], [0, 1, 1])
    np.testing.assert_allclose(found.scores([[1.0, 0.1]]), [[1 / 3, 2 / 3]])
    with pytest.raises(ValueError, match="'k' parameter"):
        CosineNeighbours(0).fit([[1.0], [2.0]], [0, 1])
