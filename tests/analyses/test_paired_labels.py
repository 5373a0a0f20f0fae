"""Real against random labels: images learn real ones first, and the run on random ones is the noise-only twin."""

import dataclasses
import math

import numpy as np
import pytest
import scipy.stats
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError

CONFIG = mm.TrainConfig(
    task=mm.ImageConfig(data="digits", train=120, test=60, noise=mm.LabelNoise(0.4)),
    model=mm.ImageMLPConfig((48, 48), biases=False, masks=mm.TurnOver()),
    steps=250,
    batch_size=30,
    optimizer="sgd",
    lr=0.03,
    weight_decay=0.0,
    evaluations=20,
    checkpoints=3,
)


@pytest.fixture(scope="module")
def both():
    return mm.real_and_random(CONFIG, score="self_influence")


@pytest.mark.slow
def test_real_labels_are_learned_first_and_random_ones_memorized_more(both):
    assert both.verdict == "real first"
    share = both.precedence()
    expected = scipy.stats.mannwhitneyu(both.learned[1].numpy(), both.learned[0].numpy()).statistic / 120**2
    assert share.value == pytest.approx(expected) and share.low < expected < share.high
    last = both.to_frame().groupby("labels").last()
    assert last.loc["random", "q50"] > last.loc["real", "q50"]
    middle = both.half_way()
    assert (
        middle["real"].value == np.sort(both.learned[0].numpy())[59] and middle["real"].value < middle["random"].value
    )


def test_the_two_runs_differ_in_their_labels_alone(tmp_path):
    short = dataclasses.replace(CONFIG, steps=4)
    found = mm.real_and_random(short, out=tmp_path / "pair")
    real, random = (mm.load(tmp_path / "pair" / name) for name in ("real", "random"))
    assert real.run.config.task.noise.fraction == 0 and random.run.config.task == short.task.noise_only()
    assert torch.equal(real.task.train_ids, random.task.train_ids) and torch.equal(found.ids, real.task.train_ids)
    for one, other in zip(real.run.model_at(0).parameters(), random.run.model_at(0).parameters(), strict=True):
        assert torch.equal(one, other)
    losses = mm.example_scores(random, "loss")["loss"].values
    row = found.to_frame().query("labels == 'random' and step == 4").iloc[0]
    assert row["mean"] == pytest.approx(float(losses.mean()))


def test_of_a_handful_of_examples_half_way_has_open_ends(both):
    few = dataclasses.replace(both, ids=both.ids[:3], learned=both.learned[:, :3])
    assert {(each.low, each.high) for each in few.half_way().values()} == {(-math.inf, math.inf)}


def test_it_draws_and_survives_saving(both, tmp_path):
    both.save(tmp_path / "both.safetensors")
    loaded = mm.RealAndRandom.load(tmp_path / "both.safetensors")
    assert loaded.to_frame().equals(both.to_frame()) and loaded.precedence() == both.precedence()
    assert len(both.plot().data) >= 4


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ConfigError, match="TrainConfig"):
        mm.real_and_random(CONFIG.task)
    with pytest.raises(UnknownNameError, match="self_influence"):
        mm.real_and_random(CONFIG, score="self_influenc")
    for score in ("tracin", "learning_speed", "agreement", "input_curvature"):
        with pytest.raises(ConfigError, match="whole runs"):
            mm.real_and_random(CONFIG, score=score)
    plain = dataclasses.replace(CONFIG, model=mm.ImageMLPConfig((8,)), steps=2)
    with pytest.raises(MissingNeedError, match="turn_over"):
        mm.real_and_random(plain, score="self_influence")
