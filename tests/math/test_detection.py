"""Detection figures against scikit-learn, ties and weights included."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from mechmem.math.detection import detection_figures


@st.composite
def cases(draw):
    n = draw(st.integers(2, 30))
    levels = draw(st.integers(1, 30))
    scores = np.array(draw(st.lists(st.integers(0, levels), min_size=n, max_size=n)), dtype=float)
    wanted = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    weights = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=float)
    return scores, wanted, weights


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
