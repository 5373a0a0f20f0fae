"""Detection figures against scikit-learn, ties and weights included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mechmem.errors import ScoreError
from mechmem.math.detection import detection_figures, memorization, subset_influence


@st.composite
def cases(draw):
    n = draw(st.integers(2, 30))
    levels = draw(st.integers(1, 30))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n)), dtype=float)
    wanted = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    return scores, wanted, weights


@pytest.mark.slow
@given(cases())
@settings(max_examples=200, deadline=None)
def test_area_and_average_precision_are_scikit_learns(case):
    scores, wanted, weights = case
    rows = np.stack([np.ones(len(scores)), weights])
    found = detection_figures(scores, wanted, rows)
    for row, figures in zip(rows, found, strict=True):
        kept = row > 0
        if not wanted[kept].any() or wanted[kept].all():
            assert np.isnan(figures).all()
            continue
        np.testing.assert_allclose(figures[0], roc_auc_score(wanted, scores, sample_weight=row), atol=1e-12)
        np.testing.assert_allclose(figures[1], average_precision_score(wanted, scores, sample_weight=row), atol=1e-12)


@pytest.mark.slow
@given(cases())
@settings(max_examples=100, deadline=None)
def test_precision_is_the_mean_over_all_orders_of_ties(case):
    scores, wanted, _ = case
    if not wanted.any() or wanted.all():
        return
    draw = np.random.default_rng(0)
    tops = []
    for _ in range(3000):
        order = np.lexsort([draw.random(len(scores)), -scores])
        tops.append(wanted[order[: wanted.sum()]].mean())
    found = detection_figures(scores, wanted, np.ones((1, len(scores))))[0, 2]
    assert abs(found - np.mean(tops)) < 5 * np.std(tops) / 3000**0.5 + 1e-12


def test_infinite_scores_rank_above_all_others():
    scores, wanted = np.array([np.inf, 1.0, 0.0, -np.inf]), np.array([True, False, True, False])
    found = detection_figures(scores, wanted, np.ones((1, 4)))[0]
    np.testing.assert_allclose(found, [0.75, 5 / 6, 0.5])


def by_hand(member, right):
    """Value and standard error of one column of members and one of answers, network by network."""
    counts = {True: [0, 0], False: [0, 0]}
    for belongs, answered in zip(member, right, strict=True):
        counts[bool(belongs)][0] += bool(answered)
        counts[bool(belongs)][1] += 1
    if not counts[True][1] or not counts[False][1]:
        return 0.0, np.inf
    value = counts[True][0] / counts[True][1] - counts[False][0] / counts[False][1]
    pulled = [((r + 1) / (n + 2), n) for r, n in counts.values()]
    return value, np.sqrt(sum(p * (1 - p) / n for p, n in pulled))


def drawn(seed, networks, sources, tests=0):
    draw = np.random.default_rng(seed)
    return draw.random((networks, sources)) < 0.7, draw.random((networks, tests or sources)) < 0.5


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 6), st.integers(1, 5))
def test_both_equal_a_loop_over_networks(seed, networks, sources, tests):
    member, right = drawn(seed, networks, sources)
    found = memorization(torch.tensor(member), torch.tensor(right))
    expected = np.array([by_hand(member[:, i], right[:, i]) for i in range(sources)])
    np.testing.assert_allclose(found.values, expected[:, 0], atol=1e-14)
    np.testing.assert_allclose(found.errors, expected[:, 1], rtol=1e-12)
    np.testing.assert_array_equal(found.trained_on, member.sum(0))
    np.testing.assert_array_equal(found.left_out, (~member).sum(0))
    member, right = drawn(seed, networks, sources, tests)
    found = subset_influence(torch.tensor(member), torch.tensor(right))
    expected = np.array([[by_hand(member[:, i], right[:, j]) for j in range(tests)] for i in range(sources)])
    np.testing.assert_allclose(found.values, expected[..., 0], atol=1e-14)
    np.testing.assert_allclose(found.errors, expected[..., 1], rtol=1e-12)


def test_memorization_is_the_diagonal_of_influence():
    member, right = (torch.tensor(each) for each in drawn(0, 40, 12))
    alone, pairs = memorization(member, right), subset_influence(member, right)
    torch.testing.assert_close(alone.values, pairs.values.diagonal())
    torch.testing.assert_close(alone.errors, pairs.errors.diagonal())


def test_planted_examples():
    """Memorized, easy, impossible, and harmful; in all and in no subset."""
    half = torch.arange(20) % 2 == 0
    all_of_them = torch.ones(20, dtype=torch.bool)
    member = torch.stack([half, half, half, half, all_of_them, ~all_of_them], 1)
    right = torch.stack([half, all_of_them, ~all_of_them, ~half, half, half], 1)
    found = memorization(member, right)
    assert found.values.tolist() == [1, 0, 0, -1, 0, 0]
    assert torch.isfinite(found.errors[:4]).all() and (found.errors[:4] > 0).all()
    assert torch.isinf(found.errors[4:]).all()


@pytest.mark.parametrize("chances", [(0.8, 0.35), (0.95, 0.6)])
def test_the_standard_error_is_the_spread_over_repetitions(chances):
    draw = torch.Generator().manual_seed(0)
    member = torch.rand(60, 4000, generator=draw) < 0.7
    chance = torch.where(member, *chances)
    found = memorization(member, torch.rand(60, 4000, generator=draw) < chance)
    assert float(found.values.mean()) == pytest.approx(chances[0] - chances[1], abs=0.01)
    assert float(found.errors.mean()) == pytest.approx(float(found.values.std()), rel=0.04)


def test_what_does_not_fit_is_refused(unchecked_shapes):
    member, right = (torch.tensor(each) for each in drawn(0, 5, 3, 4))
    with pytest.raises(ScoreError, match="shape"):
        memorization(member, right)
    with pytest.raises(ScoreError, match="4 networks for members of 5"):
        subset_influence(member, right[:4])
    for estimate in (memorization, subset_influence):
        with pytest.raises(ScoreError, match="at least one network"):
            estimate(member[:0], member[:0])
