"""Quality of attributions on small runs; the score's own formula is tested on planted models."""

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.math.attribution import datamodeling_score
from mechmem.math.logits import log_odds

CONFIG = mm.TrainConfig(
    task=mm.ImageConfig("digits", train=200, test=60, noise=mm.LabelNoise(0.1)),
    model=mm.ImageMLPConfig((24,)),
    steps=80,
    batch_size=50,
    lr=0.005,
    checkpoints=1,
)


@pytest.fixture(scope="module")
def run():
    return mm.train(CONFIG, progress=False)


@pytest.fixture(scope="module")
def found(run):
    return mm.attribution_quality(run, ["ekfac_influence"], networks=24, resamples=50)


def test_influence_predicts_other_trainings_and_random_numbers_do_not(found):
    frame = found.to_frame().set_index("method")
    assert list(frame.index) == ["ekfac_influence", "grad_dot", "random"] and (frame["figure"] == "lds").all()
    assert frame["low"]["ekfac_influence"] > 0.2 and frame["low"]["random"] < 0.1
    assert (frame["low"] <= frame["value"]).all() and (frame["value"] <= frame["high"]).all()
    assert (frame["n"] == 60).all() and found.networks == 24


def test_the_figure_is_that_of_the_subset_networks(run, found):
    subsets = mm.train_subsets(CONFIG, networks=24, fraction=0.5, logits=True, progress=False)
    influence = mm.influence(run, targets=found.targets, method="grad_dot").values.double().numpy()
    columns = [subsets.test_ids.tolist().index(target) for target in found.targets.tolist()]
    labels = run.task.given(found.targets)
    margins = np.stack([log_odds(each[columns].double(), labels).numpy() for each in subsets.test_logits])
    expected = datamodeling_score(influence, subsets.member.numpy(), margins, seed=0, resamples=2)
    frame = found.to_frame().set_index("method")
    assert frame["value"]["grad_dot"] == pytest.approx(expected.value)


@pytest.mark.slow
def test_leaving_out_and_removing_are_further_panels(run, tmp_path):
    targets = run.task.test_ids[:8]
    found = mm.attribution_quality(
        run, "datainf", targets, networks=4, left_out=6, removals=(60,), flipped=3, resamples=20
    )
    frame = found.to_frame()
    assert frame.groupby("figure")["method"].apply(list).to_dict() == {
        figure: ["datainf", "grad_dot", "random"] for figure in ("lds", "leave_one_out", "flipped")
    }
    retrained = mm.leave_one_out(run, sample=6)
    scores = mm.example_scores(run, "datainf")["datainf"]
    own = [float(scores.values[scores.ids == each]) for each in retrained.ids.tolist()]
    rank = np.corrcoef(np.argsort(np.argsort(own)), np.argsort(np.argsort(retrained.effect[0].numpy())))[0, 1]
    value = frame[(frame["figure"] == "leave_one_out") & (frame["method"] == "datainf")]["value"].iloc[0]
    assert value == pytest.approx(rank) and value > 0.3
    flips = frame[frame["figure"] == "flipped"].set_index("method")
    assert (flips["n"] == 3).all() and (flips["removed"] == 60).all()
    assert flips["value"]["datainf"] >= flips["value"]["random"]
    titles = [each.text for each in found.plot().layout.annotations]
    assert len(titles) == 3 and "without 60" in titles[2]
    found.save(tmp_path / "quality.safetensors")
    assert mm.AttributionQuality.load(tmp_path / "quality.safetensors").to_frame().equals(frame)


def test_a_network_without_turn_over_dropout_may_be_left_out_of(run):
    found = mm.leave_one_out(run, run.task.train_ids[:2])
    assert found.parts == ("full",) and found.self_influence.isnan().all() and len(found.plot().data)
    assert found.effect.shape == (1, 2) and torch.isfinite(found.effect).all()
    with pytest.raises(MissingNeedError, match="needs turn-over dropout"):
        found.agreement()


def test_bad_input_is_one_clear_error(run):
    with pytest.raises(ConfigError, match="targets must be test examples"):
        mm.attribution_quality(run, targets=run.task.train_ids[:2])
    with pytest.raises(UnknownNameError, match="no method of influence 'loss'"):
        mm.attribution_quality(run, "loss")
    for wrong in ([], ["datainf", "datainf"], ["random"]):
        with pytest.raises(ConfigError, match="^methods"):
            mm.attribution_quality(run, wrong)
    with pytest.raises(ConfigError, match="number of removed examples"):
        mm.attribution_quality(run, removals=(200,))
    with pytest.raises(MissingNeedError, match="needs a run of mm.train"):
        mm.attribution_quality(mm.Subject(run.model, run.task))
