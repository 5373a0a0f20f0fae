"""Doshi et al.'s Table 2 at every bound, and figures recounted from the logits."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest

import mechmem as mm
from mechmem.analyses.neurons import inversion_phase as module
from mechmem.analyses.neurons.inversion_phase import PHASES, InversionPhase, InversionPhaseResult, phase_of
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.relabelled import noise_only

unit = st.floats(0, 1, allow_nan=False)
BELOW = np.nextafter(0.9, 0)
FORGOTTEN = "Forgetting/Confusion"


@pytest.mark.parametrize(
    "train, test, noise, noisy, wanted",
    [
        # The stored outputs of the authors' notebook.
        (0.978, 0.983, 0.35, None, "Coexistence"),
        (0.786, 1.000, 0.35, None, "Partial Inversion"),
        (0.654, 1.000, 0.35, None, "Full Inversion"),
        (0.009, 0.011, 0.35, None, FORGOTTEN),
        # Every bound, from both sides.
        (0.9, 0.9, 0.35, None, "Coexistence"),
        (BELOW, 0.9, 0.35, None, "Partial Inversion"),
        (0.9, BELOW, 0.35, None, "Memorization"),
        (BELOW, BELOW, 0.35, None, FORGOTTEN),
        (0.70, 1, 0.35, None, "Partial Inversion"),
        (np.nextafter(0.70, 0), 1, 0.35, None, "Full Inversion"),
        (1, 1, 1, None, "Coexistence"),
        (0.05, 1, 1, None, "Partial Inversion"),
        (np.nextafter(0.05, 0), 1, 1, None, "Full Inversion"),
        # At ξ = .15 the bounds meet: nothing lies between them, and nothing in both.
        (0.9, 1, 0.15, None, "Coexistence"),
        (BELOW, 1, 0.15, None, "Full Inversion"),
        # Below they overlap.
        (0.95, 1, 0.1, None, "Coexistence"),
        (np.nextafter(0.95, 0), 1, 0.1, None, "Undecided"),
        (0.92, 1, 0.1, 0.9, "Coexistence"),
        (0.92, 1, 0.1, BELOW, "Undecided"),
        (0.92, 1, 0.1, np.nextafter(0.1, 1), "Undecided"),
        (0.92, 1, 0.1, 0.1, "Full Inversion"),
        (0.9, 1, 0.1, 0.0, "Full Inversion"),
        (BELOW, 1, 0.1, 1.0, "Full Inversion"),
        (1, 1, 0.03, 0.95, "Coexistence"),
        (1, 1, 0.0, None, "Undecided"),
        (0.92, BELOW, 0.1, 0.5, "Memorization"),
    ],
)
def test_every_bound(train, test, noise, noisy, wanted):
    assert phase_of(train, test, noise, noisy) == wanted


@given(unit, unit, unit, st.none() | unit)
def test_the_table_read_row_by_row(train, test, noise, noisy):
    bound = 1.05 - noise
    assume(abs(train - bound) > 1e-9)
    rows = {
        "Coexistence": test >= 0.9 and train >= 0.9,
        "Partial Inversion": test >= 0.9 and bound <= train < 0.9,
        "Full Inversion": test >= 0.9 and train < bound,
        "Memorization": test < 0.9 <= train,
        FORGOTTEN: test < 0.9 and train < 0.9,
    }
    holding = [name for name, holds in rows.items() if holds]
    found = phase_of(train, test, noise, noisy)
    if len(holding) == 1:
        assert found == holding[0]
    else:
        assert holding == ["Coexistence", "Full Inversion"] and found in (*holding, "Undecided")


@given(unit, unit, unit, unit)
def test_the_drawn_regions_are_the_phases(train, test, noise, noisy):
    inside = [
        name
        for name, left, right, bottom, top in module._regions(noise)
        if left < train < right and bottom < test < top
    ]
    assume(inside)
    # What the wrong labels decide is drawn as one region.
    assert len(inside) == 1
    assert inside == [phase_of(train, test, noise, None)]


@pytest.mark.parametrize("values", [(1.1, 1, 0.3), (1, -0.1, 0.3), (1, 1, float("nan")), (1, 1, 0.3, 2)])
def test_figures_that_are_no_accuracies_are_refused(values):
    with pytest.raises(ConfigError, match="must lie in"):
        phase_of(*values)


def subject_with(predict, kind="any", fraction=0.4, p=11):
    """A table of logits that predicts `predict(task)` on every id."""
    task = mm.ModularTask(mm.ModularConfig(p=p, train_fraction=0.6, noise=mm.LabelNoise(fraction, kind)))
    logits = torch.nn.functional.one_hot(predict(task), p).float()
    return mm.Subject(LogitTable(logits, task), task)


def given_labels(task):
    return task.given(task.ids)


def true_labels(task):
    return task.true(task.ids)


def constant(task):
    return torch.zeros(len(task.ids), dtype=torch.long)


def memorized(task):
    labels = task.given(task.ids).clone()
    labels[task.test_ids] = (labels[task.test_ids] + 1) % task.n_classes
    return labels


@pytest.mark.parametrize(
    "predict, wanted",
    [
        (given_labels, "Coexistence"),
        (true_labels, "Full Inversion"),
        (memorized, "Memorization"),
        (constant, FORGOTTEN),
    ],
)
def test_planted_predictions_are_named_and_counted(predict, wanted, tmp_path):
    subject = subject_with(predict)
    task, result = subject.task, InversionPhase()(subject)
    assert result.phase == wanted and result.reason
    predicted, given, true = predict(task), task.given(task.ids), task.true(task.ids)
    train, noisy = task.train_ids, task.train_ids[(given != true)[task.train_ids]]
    counts = {
        "train": (predicted == given, train),
        "train_clean": (predicted == given, train[(given == true)[train]]),
        "train_noisy": (predicted == given, noisy),
        "train_noisy_true": (predicted == true, noisy),
        "test": (predicted == true, task.test_ids),
    }
    frame = result.to_frame().set_index("split")
    assert set(frame.index) == set(counts)
    for name, (right, ids) in counts.items():
        hits, n = int(right[ids].sum()), len(ids)
        interval = binomtest(hits, n).proportion_ci(method="wilson")
        row = frame.loc[name, ["value", "low", "high", "n"]].astype(float)
        assert np.allclose(row, (hits / n, interval.low, interval.high, n))
    figure = result.plot()
    assert figure.data[-1].name == f"this network: {wanted}"
    assert (figure.data[-1].x[0], figure.data[-1].y[0]) == (result.train.value, result.test.value)
    result.save(tmp_path / "r.safetensors")
    assert InversionPhaseResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())


def test_the_nominal_fraction_enters_and_not_the_share_that_is_wrong():
    """Replacements over all classes hit the truth in one case of p: fewer labels are wrong than were replaced."""
    subject = subject_with(true_labels, p=5, fraction=0.4)
    result = InversionPhase()(subject)
    assert result.noise == 0.4 and "nominal" in result.noise_source
    assert result.wrong == pytest.approx(float(subject.task.noisy.double().mean())) and result.wrong < 0.4
    assert InversionPhase(noise=0.2)(subject).noise == 0.2


def test_without_a_config_the_share_of_wrong_labels_enters():
    subject = subject_with(true_labels)
    relabelled = dataclasses.replace(subject, task=noise_only(subject.task))
    result = InversionPhase()(relabelled)
    assert result.noise == result.wrong > 0.8 and "wrong" in result.noise_source
    task = subject.task
    unknown = mm.ArrayTask(
        task.operands,
        task.given(task.ids),
        torch.where(torch.isin(task.ids, task.train_ids), -1, task.true(task.ids)),
        torch.isin(task.ids, task.train_ids),
    )
    blind = dataclasses.replace(subject, task=unknown)
    with pytest.raises(MissingNeedError, match="its setting noise"):
        InversionPhase()(blind)
    told = InversionPhase(noise=0.4)(blind)
    assert told.splits["train_noisy"] is None and told.wrong is None and told.phase == "Full Inversion"
    assert told.to_frame().set_index("split").loc["train_clean", "value"] != 0


def test_without_noise_nothing_tells_the_two_phases_apart():
    result = InversionPhase()(subject_with(given_labels, fraction=0.0))
    assert result.phase == "Undecided" and "the accuracy on wrong labels, which would decide" in result.reason
    assert [trace.name for trace in result.plot().data[:2]] == ["Full Inversion", "Coexistence or Full Inversion"]
    assert set(module._COLORS) == set(PHASES)
