"""Events read from histories whose answer is known."""

import math

import numpy as np
import pytest

from mechmem.analyses.runs.training_times import TrainingTimes, TrainingTimesResult
from mechmem.errors import MissingNeedError
from mechmem.tasks.config import SPLITS
from mechmem.training.run import Run

STEPS = (0, 1, 2, 5, 10, 20, 50)


@pytest.fixture
def times(tiny_run, monkeypatch):
    """Return the events of a run with these accuracies."""

    def measure(clean, noisy, test, **settings):
        def rows(_run):
            accuracy = dict(zip(SPLITS, (clean, noisy, noisy, test), strict=True))
            return [
                {"step": step, **{name: values[i] for name, values in accuracy.items()}} for i, step in enumerate(STEPS)
            ]

        monkeypatch.setattr(Run, "rows", rows)
        return TrainingTimes(**settings)(tiny_run)

    return measure


CLEAN = (0.1, 0.5, 0.95, 0.8, 1.0, 1.0, 1.0)
NOISY = (0.1, 0.92, 0.3, 0.9, 0.6, 0.4, 0.2)
TEST = (0.1, 0.1, 0.95, 0.5, 0.9, 0.95, 0.99)


def bracket(result, name):
    return result.event(name).lower, result.event(name).upper


def test_planted_events_are_bracketed_by_the_evaluations_around_them(times):
    result = times(CLEAN, NOISY, TEST)
    assert bracket(result, "fit_clean") == (1, 2)
    assert bracket(result, "fit_noisy") == (0, 1)
    assert bracket(result, "grok") == (5, 10)  # not 2: it did not stay
    assert bracket(result, "unlearn") == (10, 20)  # not 2: it came back; not 0: nothing was fitted then


def test_thresholds_are_settings(times):
    assert bracket(times(CLEAN, NOISY, TEST, fitted=0.5), "fit_clean") == (0, 1)
    assert bracket(times(CLEAN, NOISY, TEST, forgotten=0.7), "unlearn") == (5, 10)
    with pytest.raises(ValueError, match="fitted must lie"):
        TrainingTimes(fitted=1.5)


def test_delays_carry_what_both_brackets_allow(times):
    frame = times(CLEAN, NOISY, TEST).to_frame().set_index("name")
    delay = frame.loc["fit_clean to grok"]
    assert (delay["step"], delay["low"], delay["high"]) == (8, 3, 9)
    assert frame.loc["fit_noisy to unlearn", ["step", "low", "high"]].tolist() == [19, 9, 20]
    assert frame.loc["fit_clean to fit_noisy", "step"] == -1


def test_what_never_happened_has_a_reason_and_no_time(times):
    never = (0.1,) * len(STEPS)
    result = times(never, (None,) * len(STEPS), (0.1, 0.95, *never[2:]))
    assert {event.upper for event in result.events} == {None}
    reasons = {event.name: event.reason for event in result.events}
    assert "never reached 0.9 in 50 steps (highest 0.100)" in reasons["fit_clean"]
    assert "empty" in reasons["fit_noisy"] and "empty" in reasons["unlearn"]
    assert "reached at step 1, but not held to step 50" in reasons["grok"]
    frame = result.to_frame()
    assert frame["step"].isna().all() and (frame["reason"] != "").all()
    assert len(result.plot().data) == 3  # two curves, chance, and no event


def test_noise_that_is_kept_or_was_never_fitted_is_not_unlearned(times):
    assert "stayed at 0.5 or above" in times(CLEAN, (1.0,) * len(STEPS), TEST).event("unlearn").reason
    assert "never reached 0.9" in times(CLEAN, (0.2,) * len(STEPS), TEST).event("unlearn").reason


def test_an_event_before_the_first_evaluation_is_bracketed_by_it_alone(times):
    assert bracket(times((1.0,) * len(STEPS), NOISY, TEST), "fit_clean") == (0, 0)


def test_events_are_drawn_where_they_are_first_seen(times):
    figure = times(CLEAN, NOISY, TEST).plot()
    lines = {trace.name: trace for trace in figure.data if trace.mode == "lines+text"}
    assert {name: set(trace.x) for name, trace in lines.items()} == {
        "fit_clean": {2},
        "fit_noisy": {1},
        "grok": {10},
        "unlearn": {20},
    }
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text


def test_it_agrees_with_the_history_of_a_real_run(tiny_run, tmp_path):
    result = TrainingTimes(fitted=0.5)(tiny_run)
    history = tiny_run.run.history()
    reached = history.loc[history["train_clean"] >= 0.5, "step"]
    assert result.event("fit_clean").upper == (int(reached.iloc[0]) if len(reached) else None)
    result.save(tmp_path / "r.safetensors")
    assert TrainingTimesResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())
    assert math.isfinite(result.history.chance) and np.isfinite(result.history.step.numpy()).all()


def test_a_network_without_a_run_is_refused(planted):
    with pytest.raises(MissingNeedError, match="needs run"):
        TrainingTimes()(planted.subject)
