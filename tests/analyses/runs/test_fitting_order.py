"""Planted orders of fitting, against scipy and a count by hand."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

import mechmem as mm
from mechmem.analyses.runs.fitting_order import (
    DIFFERENCE,
    FittingOrder,
    FittingOrderResult,
    fitting_times,
    label_collisions,
)
from mechmem.errors import MissingNeedError
from mechmem.math.comparisons import newcombe_interval
from mechmem.training.run import Run

STEPS = torch.tensor([0, 1, 3, 10, 30])


def planted(right, noisy, collisions=None) -> FittingOrderResult:
    """A result from a table (evaluation, example) of which predictions were the given label."""
    right, noisy = np.array(right, dtype=bool), np.array(noisy, dtype=bool)
    fitted, first = fitting_times(right)
    hits = np.stack([right[:, ~noisy].sum(1), right[:, noisy].sum(1)])
    arrays = (STEPS, torch.arange(len(noisy)), *map(torch.from_numpy, (noisy, fitted, first, hits)))
    return FittingOrderResult(*arrays, collisions=collisions)


def table(fitted_at):
    """Predictions of examples that are right from an evaluation on (5 for never)."""
    return np.arange(len(STEPS))[:, None] >= np.array(fitted_at)


def test_an_example_is_fitted_since_when_it_stays_right_and_first_when_it_is_right_at_all():
    right = [[0, 1, 0, 0, 1], [1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [1, 1, 0, 1, 1], [1, 1, 0, 0, 1]]
    frame = planted(right, [0, 0, 0, 1, 1]).to_frame()
    np.testing.assert_array_equal(frame["fitted"], [10, 3, np.nan, np.nan, 0])
    np.testing.assert_array_equal(frame["fitted_after"], [3, 1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(frame["first"], [1, 0, np.nan, 10, 0])
    np.testing.assert_array_equal(frame["first_after"], [0, 0, np.nan, 3, 0])
    assert frame["split"].tolist() == ["train_clean"] * 3 + ["train_noisy"] * 2


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_precedence_is_the_mann_whitney_share(clean, noisy):
    result = planted(table(clean + noisy), [0] * len(clean) + [1] * len(noisy))
    found = result.precedence()
    reference = scipy.stats.mannwhitneyu(clean, noisy, method="exact").statistic / (len(clean) * len(noisy))
    assert found.value == pytest.approx(reference, abs=1e-12)
    assert 0 <= found.low <= found.value + 1e-9 and found.value - 1e-9 <= found.high <= 1


def test_the_sign_of_a_planted_order_is_found_and_no_order_is_undecided():
    noisy = [0] * 30 + [1] * 30
    assert planted(table([3] * 30 + [1] * 30), noisy).verdict == "noisy first"
    assert planted(table([1] * 30 + [3] * 30), noisy).verdict == "clean first"
    assert planted(table([1, 3] * 30), noisy).verdict == "undecided"
    # Even where every noisy example comes first, the interval keeps a width.
    found = planted(table([3] * 30 + [1] * 30), noisy).precedence()
    assert found.value == 1 and 0.8 < found.low < 1 and found.high == 1


def test_the_interval_of_precedence_covers_the_truth_about_as_often_as_it_says():
    draw = np.random.default_rng(0)
    truth = scipy.stats.norm.cdf(1 / np.sqrt(2))
    covered = 0
    for _ in range(300):
        clean, noisy = draw.normal(1, 1, 40), draw.normal(0, 1, 25)
        share = scipy.stats.mannwhitneyu(clean, noisy).statistic / 1000
        low, high = newcombe_interval(share, 25, 40)
        covered += low <= truth <= high
    assert 0.92 <= covered / 300 <= 0.99


def test_half_is_fitted_at_the_planted_step_and_never_is_infinite():
    summary = planted(table([3] * 21 + [1] * 9 + [5] * 20), [0] * 30 + [1] * 20).summary()
    summary = summary.set_index(["quantity", "split"])
    clean, noisy = summary.loc[("fitted", "train_clean")], summary.loc[("fitted", "train_noisy")]
    assert clean["value"] == 10 and clean["low"] <= 10 <= clean["high"] and clean["n"] == 30
    assert np.isinf(noisy["value"])
    assert summary.loc[("never", "train_noisy"), "value"] == 1 and summary.loc[("never", "train_clean"), "value"] == 0


def test_the_difference_curve_and_its_largest_value():
    result = planted(table([3] * 20 + [1] * 20), [0] * 20 + [1] * 20)
    curve = result.curves().set_index(["quantity", "split"]).loc[("accuracy", DIFFERENCE)]
    np.testing.assert_allclose(curve["value"], [0, 1, 1, 0, 0])
    assert ((curve["low"] <= curve["value"]) & (curve["value"] <= curve["high"])).all()
    lead = result.summary().set_index("quantity").loc["largest lead"]
    assert lead["value"] == 1 and lead["low"] < 1
    # Newcombe (1998), table II, method 10: 56/70 against 48/80.
    wide = planted(table([1] * 48 + [5] * 32 + [1] * 56 + [5] * 14), [0] * 80 + [1] * 70).curves()
    row = wide.loc[(wide["split"] == DIFFERENCE) & (wide["step"] == 30)].iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_run_without_noise_has_no_comparison():
    result = planted(table([1, 3]), [0, 0])
    assert result.precedence() is None and result.verdict == "undecided"
    rows = result.summary().set_index(["quantity", "split"])
    assert np.isnan(rows.loc[("precedence", DIFFERENCE), "value"]) and np.isnan(
        rows.loc[("largest lead", DIFFERENCE), "value"]
    )
    assert "train, clean" in {trace.name for trace in result.plot().data}


def test_collisions_equal_a_count_by_hand():
    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.6, noise=mm.LabelNoise(0.4)))
    given = task.given(task.train_ids).tolist()
    pairs = task.operands[task.train_ids].tolist()
    wanted = [
        sum(
            given[i] == given[j] and (pairs[i][0] == pairs[j][0]) + (pairs[i][1] == pairs[j][1])
            for j in range(len(given))
            if j != i
        )
        for i in range(len(given))
    ]
    assert label_collisions(task).tolist() == wanted


def test_collisions_have_the_expected_number_under_uniform_noise():
    p, alpha, xi = 59, 0.8, 0.3
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=alpha, noise=mm.LabelNoise(xi, "any")))
    count, noisy = label_collisions(task).double(), task.noisy
    # A relabelled example may have drawn its true label: of the clean ones a share of about ξ/P has.
    assert float(count[noisy].mean()) == pytest.approx(2 * alpha * (1 - 1 / p), rel=0.05)
    assert float(count[~noisy].mean()) == pytest.approx(2 * alpha * xi * (1 - 1 / p), rel=0.06)
    clean = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=alpha))
    assert int(label_collisions(clean).sum()) == 0


def test_a_real_run_agrees_with_its_history(tiny_run):
    result = FittingOrder()(tiny_run)
    history = tiny_run.run.history()
    curve = result.curves().set_index(["quantity", "split"])
    for split in ("train_clean", "train_noisy"):
        np.testing.assert_allclose(curve.loc[("accuracy", split), "value"], history[split], atol=1e-12)
        share = (result.to_frame().query("split == @split")["fitted"] <= 30).mean()
        assert curve.loc[("fitted", split), "value"].iloc[-1] == pytest.approx(share)
    assert result.summary().equals(FittingOrder()(tiny_run).summary())


def test_what_is_missing_is_said(tiny_run, task_without_truth):
    class Other:
        """A run that kept no predictions."""

    with pytest.raises(MissingNeedError, match="recorded which predictions"):
        FittingOrder()(mm.Subject(tiny_run.model, tiny_run.task, run=Other()))
    with pytest.raises(MissingNeedError, match="true labels"):
        FittingOrder()(mm.Subject(tiny_run.model, task_without_truth, run=tiny_run.run))
    assert isinstance(tiny_run.run, Run)


@pytest.fixture
def task_without_truth():
    given_labels = torch.arange(20) % 3
    train = torch.arange(20) < 12
    return mm.ArrayTask(torch.arange(80.0).reshape(20, 4), given_labels, given_labels.masked_fill(train, -1), train)


def test_collisions_are_told_of_pairs():
    assert "pairs" in FittingOrder().told()
