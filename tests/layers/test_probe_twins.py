"""What is set beside a trained network: its twins, the gap to initialisation, and the noise that it fits."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.layers.probe_layers import LayerProbes, probe_layers
from mechmem.math.comparisons import paired_difference, paired_ratio
from mechmem.models.reading.split_hits import noise_fit
from mechmem.scorecard.extractor import extractor
from mechmem.tasks.splits import Marks

CLASSES, N = 4, 800
GOOD, BAD = 0.95, 0.6


class Planted(HookedRootModule):
    """Two layers that hold the class of an example where a column of the input allows; and answers by heart.

    An input is (its class, its given label, a number in [0, 1)); a layer of quality q holds the class where the number
    is below q, and the next class where it is not.
    """

    def __init__(self, qualities, fits=1.0):
        super().__init__()
        self.qualities, self.fits = qualities, fits
        self.hook_one, self.hook_two = HookPoint(), HookPoint()
        self.weight = nn.Parameter(torch.tensor([*qualities, fits]))
        self.roles = mm.Roles(hidden=("hook_one", "hook_two"))
        self.setup()

    def forward(self, x):
        true, given, number = x[:, 0].long(), x[:, 1].long(), x[:, 2]
        for quality, point in zip(self.qualities, (self.hook_one, self.hook_two), strict=True):
            point(nn.functional.one_hot(torch.where(number < quality, true, (true + 1) % CLASSES), CLASSES).float())
        return nn.functional.one_hot(torch.where(number < self.fits, given, (given + 1) % CLASSES), CLASSES).float()


def planted(noise=0.4, fits=1.0, qualities=(GOOD, BAD)):
    draw = torch.Generator().manual_seed(0)
    true = torch.arange(N) % CLASSES
    train = torch.arange(N) < N // 2
    drawn = torch.randint(CLASSES, (N,), generator=draw)
    given = torch.where(train & (torch.rand(N, generator=draw) < noise), drawn, true)
    inputs = torch.stack([true.float(), given.float(), torch.rand(N, generator=draw)], 1)
    model = Planted(qualities, fits)
    return mm.Subject(model, mm.ArrayTask(inputs, given, true, train), model.roles)


def shares(subject, *qualities):
    number = subject.task.inputs[subject.task.test_ids, 2]
    return [float((number < quality).double().mean()) for quality in qualities]


def measured(subject, before=(BAD, GOOD), clean=(1.0, 1.0), **settings):
    settings = {"probe": "class_mean", "labels": "true", "folds": 0} | settings
    return probe_layers(subject, untrained=Planted(before), clean_labels=Planted(clean), **settings)


def test_the_gap_says_which_layer_is_benign():
    subject = planted()
    found = measured(subject)
    gap = found.benign_gap().set_index("layer")
    good, bad = shares(subject, GOOD, BAD)
    np.testing.assert_allclose(gap["trained"], [good, bad])
    np.testing.assert_allclose(gap["untrained"], [bad, good])
    np.testing.assert_allclose(gap["gap"], [good - bad, bad - good])
    n = len(subject.task.test_ids)
    # Whoever is right at the worse layer is right at the better one.
    expected = paired_difference(round(good * n), round(bad * n), round(bad * n), n)
    np.testing.assert_allclose(gap.loc["hook_one", ["low", "high"]].astype(float), [expected.low, expected.high])
    assert gap["verdict"].to_dict() == {"hook_one": "benign", "hook_two": "malign"}
    assert (measured(subject, before=(GOOD, BAD)).benign_gap()["verdict"] == "undecided").all()


@pytest.mark.parametrize("noise", [0.4, 1.0])
@pytest.mark.parametrize("fits", [0.85, 0.97])
def test_without_a_fit_of_the_noise_there_is_no_verdict(noise, fits):
    subject = planted(noise, fits)
    found = measured(subject)
    task, train = subject.task, subject.task.train_ids
    answered = task.inputs[train, 2] < fits
    # Where all labels are random, those that are right by chance count too.
    counted = torch.ones(len(train)).bool() if noise == 1 else task.noisy
    assert found.noise_fit.n == int(counted.sum())
    assert found.noise_fit.value == pytest.approx(float(answered[counted].double().mean()))
    verdicts = set(found.benign_gap()["verdict"])
    assert verdicts == ({"benign", "malign"} if fits > 0.9 else {"not fitted"})


def test_without_noise_there_is_no_verdict_either():
    assert set(measured(planted(0.0)).benign_gap()["verdict"]) == {"no noise known"}
    subject = planted()
    task = subject.task
    truth = torch.where(torch.isin(task.ids, task.train_ids), -1, task.true(task.ids))
    hidden = mm.ArrayTask(task.inputs, task.given(task.ids), truth, torch.isin(task.ids, task.train_ids))
    found = measured(dataclasses.replace(subject, task=hidden), labels="given")
    assert found.noise_fit is None and set(found.benign_gap()["verdict"]) == {"no noise known"}
    assert found.benign_gap("train_noisy")["gap"].isna().all()


def test_the_clean_twin_stands_beside_the_network():
    subject = planted()
    found = measured(subject, before=(0.3, 0.3), clean=(GOOD, 1.0))
    table = found.table()
    good, bad = shares(subject, GOOD, BAD)
    assert list(table) == ["trained", "untrained", "clean_labels", "cross_validated"]
    np.testing.assert_allclose(table["clean_labels"].iloc[1:3], [good, 1])
    frame = found.to_frame()
    assert set(frame["network"]) == {"none", "trained", "untrained", "clean_labels"}
    assert len(frame.query("network == 'clean_labels' and layer == 'output'")) == 4
    ratio, n = found.clean_ratio(), len(subject.task.test_ids)
    np.testing.assert_allclose(ratio["ratio"], [1, bad])
    expected = paired_ratio(round(bad * n), n, round(bad * n), n)
    np.testing.assert_allclose(ratio.loc[1, ["low", "high"]].astype(float), [expected.low, expected.high])
    assert [trace.name for trace in found.plot().data if trace.showlegend is not False][2] == "trained on true labels"


def test_without_twins_their_columns_are_left_out_and_asking_is_an_error(tmp_path):
    found = probe_layers(planted(), folds=0)
    assert list(found.table()) == ["trained", "untrained", "cross_validated"]
    assert set(found.to_frame()["network"]) == {"none", "trained", "untrained"}
    with pytest.raises(MissingNeedError, match="no untrained network .* nor a retrainer"):
        found.benign_gap()
    with pytest.raises(MissingNeedError, match="no clean-labels network .* pass clean_labels="):
        found.clean_ratio()
    assert not any(trace.yaxis == "y2" for trace in found.plot().data)
    both = measured(planted())
    both.save(tmp_path / "r.safetensors")
    loaded = LayerProbes.load(tmp_path / "r.safetensors")
    pd.testing.assert_frame_equal(loaded.benign_gap(), both.benign_gap())
    pd.testing.assert_frame_equal(loaded.clean_ratio(), both.clean_ratio())


def test_the_retrainer_makes_the_twins():
    task = mm.ImageConfig("digits", train=150, test=100, noise=mm.LabelNoise(0.5, "any"))
    config = mm.TrainConfig(task=task, model=mm.ImageMLPConfig(widths=(16,)), weight_decay=0, batch_size=32, steps=60)
    run = mm.train(config, progress=False)
    found = probe_layers(run, probe="class_mean", clean_labels=True, folds=0)
    by_hand = probe_layers(run, probe="class_mean", clean_labels=run.retrainer.twin("clean_labels"), folds=0)
    assert torch.equal(found.correct, by_hand.correct) and (found.correct[2] >= 0).all()
    assert found.table().loc["output", "clean_labels"] > found.table().loc["output", "trained"]


class Views(mm.ArrayTask):
    """Training examples are views of the sources, with another input and another label each."""

    def __init__(self, base, copies):
        inputs, given = (
            value.repeat(copies + 1, *[1] * (value.ndim - 1)) for value in (base.inputs, base.given(base.ids))
        )
        views = torch.arange(len(inputs)) >= len(base.ids)
        inputs[views] += 100
        given[views] = (given[views] + 1) % base.n_classes
        train = torch.isin(torch.arange(len(inputs)) % len(base.ids), base.train_ids)
        super().__init__(inputs, given, base.true(base.ids).repeat(copies + 1), train, n_classes=base.n_classes)
        self.train_ids, self.test_ids = torch.nonzero(train & views).flatten(), base.test_ids
        self._own = base.train_ids

    @property
    def sources(self):
        return self._own


class Whole(HookedRootModule):
    """Holds its inputs, and answers by the second column."""

    def __init__(self):
        super().__init__()
        self.hook_held = HookPoint()
        self.seen = []
        self.roles = mm.Roles(hidden=("hook_held",))
        self.setup()

    def forward(self, x):
        self.seen += x[:, 0].tolist()
        self.hook_held(x)
        return nn.functional.one_hot(x[:, 1].long() % CLASSES, CLASSES).float()


def test_probes_are_fitted_to_the_originals_with_their_own_labels():
    base = planted()
    task = Views(base.task, 2)
    plain = mm.Subject(Whole(), base.task, Whole().roles)
    subject = mm.Subject(Whole(), task, Whole().roles)
    for probe in ("knn(k=3)", "class_mean(metric=euclidean)"):
        one, two = (probe_layers(each, probe=probe, folds=2) for each in (plain, subject))
        assert torch.equal(one.correct, two.correct) and torch.equal(one.n, two.n)
        assert torch.equal(one.cross_validated, two.cross_validated)
    scores = [extractor("knn(k=3)@hook_held")(each)(task.test_ids) for each in (plain, subject)]
    assert torch.equal(*scores)
    # Views come in for nothing but the fit of their own labels.
    marks = Marks(task, "sources")
    assert len(marks.ids) == N and (marks.ids < N).all()
    answers = torch.zeros(len(task.sources), dtype=torch.long)
    assert noise_fit(subject, answers).value < 0.5 and noise_fit(plain, base.task.given(task.sources)).value == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_one_clear_line(value):
    subject = planted()
    subject.task.inputs[5, 2] = value
    with pytest.raises(MissingNeedError) as error:
        probe_layers(subject, points="hook_one", folds=0)
    assert str(error.value) == "'inputs' holds NaN or infinity on 1 of 400 examples: probes need numbers"

    sound = planted()
    broken = Planted((GOOD, BAD))
    broken.hook_one.add_perma_hook(lambda x, hook: x * value)
    for settings, network in (({"untrained": broken}, "untrained"), ({"clean_labels": broken}, "clean-labels")):
        with pytest.raises(MissingNeedError) as error:
            probe_layers(sound, folds=0, **settings)
        assert str(error.value).startswith(f"'hook_one' of the {network} network holds NaN or infinity on 400 of 400 ")
    # A test example alone is enough.
    sound.task.inputs[-1, 2] = value
    read = extractor("masc@inputs")(sound)
    assert read(sound.task.train_ids).isfinite().all()
    with pytest.raises(MissingNeedError, match="^'inputs' holds NaN or infinity on 1 of 400 examples"):
        read(sound.task.test_ids)


def test_a_probe_that_cannot_be_fitted_says_why_in_one_line():
    subject = planted()
    task = subject.task
    given = task.given(task.ids).clone()
    given[task.train_ids] = given[task.train_ids].clamp(max=2)
    given[0] = 3
    lone = mm.ArrayTask(task.inputs, given, task.true(task.ids), torch.isin(task.ids, task.train_ids))
    with pytest.raises(MissingNeedError, match="^'qda' cannot be fitted to 'inputs': .*$") as error:
        probe_layers(dataclasses.replace(subject, task=lone), probe="qda")
    assert "\n" not in str(error.value)
    # Too few for a part, enough for all: the table stands, and says that no layer is chosen.
    given[4] = 3
    few = mm.ArrayTask(task.inputs, given, task.true(task.ids), torch.isin(task.ids, task.train_ids))
    found = probe_layers(Whole(), few, probe="qda")
    assert found.chosen == "" and "cannot be fitted to a part of the training set" in found.note
