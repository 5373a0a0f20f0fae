"""The subspace classifier against a plain decomposition per class in float64, at every point."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechmem.layers.classifiers import masc
from mechmem.layers.classifiers.masc import MinimumAngleSubspaces


def plain(X, y, points, variance=0.99, components=None):
    """Scores, class by class, by singular value decomposition written out."""
    points = points.astype(np.float64)
    scores = []
    for each in np.unique(y):
        _, s, v = np.linalg.svd(X[y == each].astype(np.float64), full_matrices=False)
        rank = int((s > s[0] * max(X[y == each].shape) * np.finfo(np.float64).eps).sum()) if s[0] > 0 else 0
        share = np.cumsum(s[:rank] ** 2) / max(np.sum(s[:rank] ** 2), 1e-300)
        kept = components or int((share <= variance + 1e-12).sum()) + 1
        inside = points @ v[: min(kept, rank)].T
        scores.append((inside**2).sum(1) / np.maximum((points**2).sum(1), 1e-300))
    return np.stack(scores, 1)


def planted(seed, n, features, classes, dtype):
    """Rectified features with duplicates, zeros, and a class of a single example; and points with all of these."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(classes, 5)) + draw.normal(size=(n, 1, 5))
    y = draw.integers(classes, size=n)
    y[:classes] = np.arange(classes)
    y[classes:][y[classes:] == classes - 1] = 0
    X = np.maximum(mixed[np.arange(n), y] @ draw.normal(size=(5, features)) + 0.3 * draw.normal(size=(n, features)), 0)
    X[classes + 1] = X[classes]
    y[classes + 1] = y[classes]
    X[classes + 2] = 0
    points = np.maximum(draw.normal(size=(200, features)), 0)
    points[:20], points[20:40] = X[:20], 0
    points[40:60] = points[60:80]
    return X.astype(dtype), y, points.astype(dtype)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(40, 6, 3), (60, 100, 4), (30, 30, 2), (50, 1, 3)]),
    setting=st.sampled_from([{}, {"variance": 0.5}, {"variance": 1.0}, {"components": 1}, {"components": 7}]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_every_point_gets_the_class_of_the_plain_way(seed, shape, setting, dtype):
    X, y, points = planted(seed, *shape, dtype)
    found = MinimumAngleSubspaces(**setting).fit(X, y)
    scores = found.scores(points)
    expected = plain(X, y, points, **setting)
    np.testing.assert_allclose(scores, expected, atol=1e-9)
    # Of scores that are equal, the lowest class: an example that lies in two subspaces, or is zero.
    level = expected >= expected.max(1, keepdims=True) - 1e-9
    answers = found.predict(points)
    assert level[np.arange(len(points)), answers].all()
    clear = level.sum(1) == 1
    assert (answers[clear] == expected.argmax(1)[clear]).all()
    assert (answers[~points.any(1)] == 0).all() and (scores[~points.any(1)] == 0).all()


def test_components_that_a_gram_matrix_cannot_tell_apart_are_found_all_the_same():
    draw = np.random.default_rng(0)
    left, right = (np.linalg.qr(draw.normal(size=(n, 12)))[0] for n in (20, 50))
    X = left * np.logspace(0, -11, 12) @ right.T  # singular values down to 1e-11
    other = draw.normal(size=(15, 50))
    X, y = np.concatenate([X, other]), np.repeat([0, 1], [20, 15])
    for setting in ({"components": 12}, {"variance": 1.0}):
        found = MinimumAngleSubspaces(**setting).fit(X, y)
        assert len(found.subspaces_[0]) == 12
        np.testing.assert_allclose(found.scores(right.T)[:, 0], 1, atol=1e-3)


@pytest.mark.parametrize("shape", [(120, 300), (300, 40)])
def test_the_way_over_the_gram_matrix_is_taken_and_is_exact(monkeypatch, shape):
    X, y, points = planted(1, *shape, 4, np.float64)
    with monkeypatch.context() as patched:
        patched.setattr(MinimumAngleSubspaces, "_exactly", None)
        fast = MinimumAngleSubspaces().fit(X, y).scores(points)
    monkeypatch.setattr(masc, "RESOLVED", np.inf)
    np.testing.assert_allclose(fast, MinimumAngleSubspaces().fit(X, y).scores(points), atol=1e-11)
