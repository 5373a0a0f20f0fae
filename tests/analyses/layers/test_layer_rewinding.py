"""Rewinding on a network whose wrong labels are planted in one layer, and on runs."""

import dataclasses
import math

import pytest
import torch
from two_paths import two_paths

import mechmem as mm
from mechmem.analyses.layers.layer_rewinding import LayerRewinding
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, UnknownNameError
from mechmem.models.reading.split_hits import split_hits
from mechmem.tasks.config import SPLITS


def table(result):
    return result.to_frame().pivot(index="layer", columns="split", values="value")[list(SPLITS)]


@pytest.mark.parametrize("holder", ["memory", "norm"])
def test_wrong_labels_go_with_the_layer_that_holds_them(holder):
    """The norm holds them by its buffers alone."""
    subject = two_paths()
    found = table(mm.analyse(subject, "layer_rewinding"))
    assert found.loc["none"].tolist() == [1, 1, 0, 1]
    assert found.loc[holder].tolist() == [1, 0, 1, 1]
    assert found.loc["rule", "train_noisy"] == 1 and found.loc["rule", "test"] < 0.5


def test_how_far_a_layer_has_moved():
    subject = two_paths()
    result = mm.analyse(subject, "layer_rewinding")
    moved = dict(zip(result.layers, result.moved[:, 0].tolist(), strict=True))
    assert moved["memory"] == 1 and math.isnan(moved["norm"])
    before, now = (each.rule.weight.detach() for each in (subject.retrainer.model, subject.model))
    assert moved["rule"] == pytest.approx(float((now - before).norm() / now.norm()))


def test_every_checkpoint_of_a_run_against_states_put_together_by_hand(tiny_run):
    result = mm.analyse(tiny_run, "layer_rewinding(step=every)")
    assert result.step.tolist() == tiny_run.run.checkpoint_steps() and result.layers == ("W_in", "W_out")
    for time, step in enumerate(result.step.tolist()):
        then = tiny_run.run.model_at(step).state_dict()
        for layer, name in enumerate(result.layers):
            model = tiny_run.copy_model()
            model.load_state_dict({**model.state_dict(), name: then[name]})
            assert torch.equal(result.hits[layer, time], split_hits(model, tiny_run.task)[0])
    assert torch.equal(result.hits[:, -1], result.trained.expand(2, -1)) and float(result.moved[:, -1].max()) == 0
    frame = result.to_frame()
    assert len(frame) == len(result.step) * 3 * 4
    assert {trace.type for trace in result.plot().data} == {"heatmap"}
    one = mm.analyse(tiny_run, "layer_rewinding", step=int(result.step[1]))
    assert torch.equal(one.hits[:, 0], result.hits[:, 1])
    over = mm.over_training(tiny_run, "layer_rewinding").frame("layer_rewinding")
    assert set(over["step"]) == set(result.step.tolist()) and over["value"].notna().all()


def test_blocks_of_an_image_network_go_back_with_their_running_statistics():
    config = mm.TrainConfig(
        task=mm.ImageConfig(train=40, test=20, noise=mm.LabelNoise(0.2)),
        model=mm.ResNetConfig(2, (1,)),
        steps=8,
        lr=0.01,
        evaluations=1,
        checkpoints=1,
    )
    run = mm.train(config, progress=False)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    result = mm.analyse(run, "layer_rewinding", layers="layers.*")
    assert result.layers == ("layers.0", "layers.1")
    then, model = run.run.model_at(0).state_dict(), run.copy_model()
    model.load_state_dict({name: then[name] if "layers.1." in name else own for name, own in before.items()})
    assert torch.equal(result.hits[1, 0], split_hits(model, run.task)[0])
    assert not torch.equal(then["layers.1.norm1.running_mean"], before["layers.1.norm1.running_mean"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.model.state_dict().items())


@pytest.mark.parametrize("settings", [{"noise": 0}, {"known": False}])
def test_a_split_that_is_empty_or_not_known_reads_nothing(settings):
    result = mm.analyse(two_paths(**settings), "layer_rewinding")
    found = table(result)
    assert found["train_noisy"].isna().all() and found.loc["none", "test"] == 1
    assert len(result.plot().data)


def test_what_is_missing_is_said(tiny_run):
    bare = two_paths(retrainer=False)
    with pytest.raises(MissingNeedError, match="neither a run with step 0 nor a retrainer"):
        LayerRewinding()(bare)
    with pytest.raises(MissingNeedError, match="needs run"):
        LayerRewinding(step="every")(two_paths())
    with pytest.raises(RunDirectoryError, match="no checkpoint at step 7; it has 0"):
        LayerRewinding(step=7)(tiny_run)
    with pytest.raises(UnknownNameError, match="no layer"):
        LayerRewinding(layers="W_up")(tiny_run)
    with pytest.raises(UnknownNameError, match="every"):
        LayerRewinding(step="evry")
    with pytest.raises(ConfigError):
        LayerRewinding(step=-1)
    with pytest.raises(ConfigError, match="whole run"):
        mm.over_training(tiny_run, LayerRewinding(step="every"))
    recorded = dataclasses.replace(tiny_run, run=None)
    assert torch.equal(LayerRewinding()(recorded).hits, LayerRewinding()(tiny_run).hits)
