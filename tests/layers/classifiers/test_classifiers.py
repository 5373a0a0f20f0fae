"""The estimators against scikit-learn's own checks, and against numpy written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestCentroid
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import ThreadpoolController

from mechmem.layers.classifiers.class_means import NearestClassMean, PrincipalDirections
from mechmem.layers.classifiers.masc import MinimumAngleSubspaces
from mechmem.layers.classifiers.neighbours import CosineNeighbours


@parametrize_with_checks(
    [
        MinimumAngleSubspaces(),
        MinimumAngleSubspaces(components=1),
        PrincipalDirections(),
        NearestClassMean(),
        NearestClassMean("euclidean"),
        CosineNeighbours(),
        CosineNeighbours(1),
    ]
)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


def data(seed=0, n=60, features=9, classes=3):
    draw = np.random.default_rng(seed)
    y = draw.integers(classes, size=n)
    scale = draw.uniform(0.1, 2, size=(classes, features))
    return draw.normal(size=(n, features)) * scale[y] + draw.normal(size=(classes, features))[y], y


def projector(X, count):
    """Onto the eigenvectors of XᵀX with the largest eigenvalues."""
    _, vectors = np.linalg.eigh(X.T @ X)
    kept = vectors[:, ::-1][:, :count]
    return kept @ kept.T


def kept_by(X, variance):
    """As many components as carry no more than this share of the energy, and one more, up to the rank."""
    energy = np.linalg.eigvalsh(X.T @ X)[::-1]
    return min(int((np.cumsum(energy) / energy.sum() <= variance).sum()) + 1, np.linalg.matrix_rank(X))


@pytest.mark.parametrize("n, features", [(60, 9), (20, 30)])
@pytest.mark.parametrize("variance", [0.0, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_subspaces_are_those_of_the_uncentred_second_moments(variance, n, features):
    X, y = data(1, n, features)
    found = MinimumAngleSubspaces(variance).fit(X, y)
    wanted = []
    for each, basis in enumerate(found.subspaces_):
        own = X[y == each]
        assert len(basis) == kept_by(own, variance)
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(basis)), atol=1e-12)
        np.testing.assert_allclose(basis.T @ basis, projector(own, len(basis)), atol=1e-8)
        wanted.append(np.square(X @ basis.T).sum(1) / np.square(X).sum(1))
    np.testing.assert_allclose(found.scores(X), np.stack(wanted, 1), atol=1e-10)


def test_the_angle_decides_and_not_the_length():
    X, y = data(2)
    found = MinimumAngleSubspaces(components=2).fit(X, y)
    angles = [np.arccos(np.linalg.norm(X @ b.T, axis=1) / np.linalg.norm(X, axis=1)) for b in found.subspaces_]
    assert (found.predict(X) == np.argmin(angles, 0)).all()
    assert (found.predict(X * 1e-3) == found.predict(X)).all()


def test_subspaces_are_no_larger_than_what_they_span():
    line = np.outer(np.arange(1, 6.0), [1.0, 2, 0, 0])
    plane = np.random.default_rng(0).normal(size=(7, 2)) @ np.eye(4)[2:]
    X, y = np.concatenate([line, plane]), np.repeat([0, 1], [5, 7])
    assert [len(b) for b in MinimumAngleSubspaces(1.0).fit(X, y).subspaces_] == [1, 2]
    assert [len(b) for b in MinimumAngleSubspaces(components=3).fit(X, y).subspaces_] == [1, 2]
    assert (MinimumAngleSubspaces(1.0).fit(X, y).predict(X) == y).all()


def test_subspaces_have_the_same_bits_on_one_thread_and_on_several_which_stay_as_they_were():
    X, y = data(n=300, features=40, classes=5)
    blas, found = ThreadpoolController().select(user_api="blas"), []
    for threads in (1, 2, 3):
        with blas.limit(limits=threads):
            before = [library["num_threads"] for library in blas.info()]
            found.append(MinimumAngleSubspaces().fit(X, y).subspaces_)
            assert [library["num_threads"] for library in blas.info()] == before
    for one, other in zip(found[0] * 2, found[1] + found[2], strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_nothing_tells_classes_apart_the_lowest_wins():
    X, y = data(3, n=80, features=4)
    everywhere = MinimumAngleSubspaces(1.0).fit(X, y)
    assert [len(b) for b in everywhere.subspaces_] == [4] * 3
    assert (everywhere.predict(X) == 0).all()
    for estimator in (MinimumAngleSubspaces(), PrincipalDirections(), NearestClassMean()):
        fitted = estimator.fit(X, y)
        assert (fitted.scores(np.zeros((2, 4))) == 0).all() and (fitted.predict(np.zeros((2, 4))) == 0).all()
    nothing = MinimumAngleSubspaces().fit(np.where((y == 1)[:, None], 0, X), y)
    assert len(nothing.subspaces_[1]) == 0 and 1 not in nothing.predict(X)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(40, 6), (12, 20)]))
def test_directions_equal_one_component_on_activations_that_are_nowhere_negative(seed, shape):
    X, y = data(seed, *shape)
    X, y = np.maximum(X, 0) + 1e-3, np.arange(len(y)) % 3
    one, other = PrincipalDirections().fit(X, y), MinimumAngleSubspaces(components=1).fit(X, y)
    np.testing.assert_allclose(one.scores(X) ** 2, other.scores(X), atol=1e-9)
    assert (one.predict(X) == other.predict(X)).all()
    assert (one.directions_ >= -1e-9).all()


def test_a_direction_is_turned_by_the_mean_over_all_examples():
    draw = np.random.default_rng(0)
    few, many = np.array([-1.0, 0.1]), np.array([1.0, 0.3])
    X = np.concatenate([few + 0.01 * draw.normal(size=(3, 2)), many + 0.01 * draw.normal(size=(30, 2))])
    y = np.repeat([0, 1], [3, 30])
    found = PrincipalDirections().fit(X, y).directions_
    assert ((X @ found.T).mean(0) >= 0).all()
    # Its own examples point away from it: the sign is that of the mean over everybody.
    assert (X[y == 0] @ found[0]).mean() < 0


def test_class_means():
    X, y = data(4)
    nearest, angles = NearestClassMean("euclidean").fit(X, y), NearestClassMean().fit(X, y)
    assert (nearest.predict(X) == NearestCentroid().fit(X, y).predict(X)).all()
    means = np.stack([X[y == c].mean(0) for c in range(3)])
    cosines = X @ means.T / np.linalg.norm(X, axis=1)[:, None] / np.linalg.norm(means, axis=1)
    np.testing.assert_allclose(angles.scores(X), cosines, atol=1e-11)
    assert (angles.predict(X) != nearest.predict(X)).any()


def test_settings_that_cannot_be():
    X, y = data()
    for wrong in (MinimumAngleSubspaces(1.5), MinimumAngleSubspaces(components=0), NearestClassMean("manhattan")):
        with pytest.raises(ValueError, match="parameter of"):
            wrong.fit(X, y)
    with pytest.raises(NotFittedError):
        MinimumAngleSubspaces().scores(X)
