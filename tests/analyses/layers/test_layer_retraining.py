"""Retraining one layer: planted answers, plain loops of torch beside it, and nothing else touched."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from two_paths import two_paths

import mechmem as mm
from mechmem.analyses.layers import layer_retraining
from mechmem.analyses.layers.layer_retraining import LayerRetraining
from mechmem.core.plugins import named
from mechmem.core.randomness import generator
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.models.reading.layer_parameters import parameter_layers
from mechmem.tasks.config import SPLITS
from mechmem.training.optimizers import Optimizers


def table(result, state="retrained"):
    frame = result.to_frame()
    return frame.loc[frame["state"] == state].pivot(index="layer", columns="split", values="value")[list(SPLITS)]


@pytest.mark.slow
def test_clean_examples_bring_back_the_rule_and_not_the_memory():
    subject = two_paths()
    found = mm.analyse(subject, "layer_retraining", labels="clean", steps=1500)
    assert table(found, "trained").loc["none"].tolist() == [1, 1, 0, 1]
    assert table(found, "rewound").loc["memory"].tolist() == [1, 0, 1, 1]
    # Wrong labels stay where the memory stays, and are gone with it.
    assert table(found).loc["rule"].tolist() == [1, 1, 0, 1]
    assert table(found).loc["memory"].tolist() == [1, 0, 1, 1]
    again = table(mm.analyse(subject, "layer_retraining", labels="given", layers="memory", steps=1500))
    assert again.loc["memory"].tolist() == [1, 1, 0, 1]
    assert "norm" not in found.layers and "not recorded" in found.note


def by_hand(subject, config, name, ids, labels, steps, order=None):
    """Retrain one parameter with torch's own optimiser, and return the loss on the examples before and after."""
    model = subject.copy_model()
    then = subject.run.model_at(0)
    model.load_state_dict({**model.state_dict(), name: then.state_dict()[name]})
    parameter = dict(model.named_parameters())[name]
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD([parameter], config.lr, config.momentum, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.AdamW([parameter], config.lr, config.betas, weight_decay=config.weight_decay)

    def loss(rows):
        logits = model(subject.task.batch(ids[rows])[0])
        if config.loss == "mse":
            return ((logits - F.one_hot(labels[rows], logits.shape[1])) ** 2).mean()
        return F.cross_entropy(logits, labels[rows])

    every = torch.arange(len(ids))
    ends = [float(loss(every).detach())]
    for step in range(steps):
        optimizer.zero_grad()
        loss(every if order is None else order(step)).backward()
        optimizer.step()
    return [*ends, float(loss(every).detach())]


@pytest.mark.parametrize(("optimizer", "loss", "lr"), [("adamw", "cross_entropy", 0.05), ("sgd", "mse", 0.5)])
@pytest.mark.parametrize("labels", ["given", "true", "clean"])
def test_the_run_s_own_optimiser_trains_that_layer_alone(optimizer, loss, lr, labels, tiny_config):
    config = dataclasses.replace(tiny_config, optimizer=optimizer, loss=loss, lr=lr)
    run = mm.train(config, progress=False)
    task, before = run.task, {name: each.clone() for name, each in run.model.state_dict().items()}
    ids = task.train_ids[~task.noisy] if labels == "clean" else task.train_ids
    wanted = task.true(ids) if labels == "true" else task.given(ids)
    result = mm.analyse(run, "layer_retraining", labels=labels, steps=15)
    for layer, name in enumerate(("W_in", "W_out")):
        ends = by_hand(run, config, name, ids, wanted, 15)
        assert result.loss[layer].tolist() == pytest.approx(ends, rel=1e-4)
        assert ends[1] != pytest.approx(ends[0], rel=1e-2)
    assert all(torch.equal(each, before[name]) for name, each in run.model.state_dict().items())
    assert all(each.requires_grad for each in run.model.parameters())
    assert result.note == "" and len(result.plot().data)


def test_minibatches_are_drawn_by_the_seed(tiny_run):
    ids, given = tiny_run.task.train_ids, tiny_run.task.given(tiny_run.task.train_ids)
    n = len(ids)

    def order(step):
        per_epoch = -(-n // 5)
        epoch, place = divmod(step, per_epoch)
        return torch.randperm(n, generator=generator(3, "order of retraining", epoch))[5 * place : 5 * place + 5]

    ends = by_hand(tiny_run, tiny_run.run.config, "W_out", ids, given, 9, order)
    settings = {"steps": 9, "batch_size": 5, "layers": "readout"}
    found = mm.analyse(tiny_run, "layer_retraining", seed=3, **settings)
    assert found.loss[0].tolist() == pytest.approx(ends, rel=1e-4)
    assert torch.equal(found.loss, mm.analyse(tiny_run, "layer_retraining", seed=3, **settings).loss)
    assert not torch.equal(found.loss, mm.analyse(tiny_run, "layer_retraining", seed=4, **settings).loss)


def test_row_blocks_add_up(monkeypatch):
    whole = mm.analyse(two_paths(), "layer_retraining", steps=20)
    monkeypatch.setattr(layer_retraining, "block_rows", lambda _model: 5)
    parts = mm.analyse(two_paths(), "layer_retraining", steps=20)
    assert torch.allclose(parts.loss, whole.loss, rtol=1e-9)


def test_the_readout_alone_is_what_the_whole_network_gives(monkeypatch):
    subject = two_paths()
    assert named("analyses", "readout_retraining").layers == "readout"
    alone = mm.analyse(subject, "readout_retraining", steps=30)
    monkeypatch.setattr(layer_retraining, "_through_readout", lambda *_: None)
    whole = mm.analyse(subject, "readout_retraining", steps=30)
    assert alone.layers == ("readout",) and torch.equal(alone.hits, whole.hits)
    assert torch.allclose(alone.loss, whole.loss, rtol=1e-12)


def test_a_readout_that_is_the_embedding_too_is_run_whole():
    subject = two_paths()
    model, ids = subject.model, subject.task.train_ids
    (rule,), (layer,) = (parameter_layers(model, pattern=name) for name in ("rule", "readout"))
    assert layer_retraining._through_readout(subject, model, layer, ids) is not None
    assert layer_retraining._through_readout(subject, model, rule, ids) is None
    model.again = torch.nn.Linear(3, 3, bias=False)
    model.again.weight = model.readout.weight
    assert layer_retraining._through_readout(subject, model, layer, ids) is None


def test_muon_trains_that_layer_alone(tiny_config):
    config = dataclasses.replace(tiny_config, optimizer="muon", lr=0.02, model=mm.MLPConfig(width=12, bias=True))
    run = mm.train(config, progress=False)
    (layer,) = parameter_layers(run.model, run.roles, "W_out")
    models = [run.copy_model() for _ in range(2)]
    inputs, given = run.task.batch(run.task.train_ids)
    for model in models:
        optimizers = Optimizers(config, model, run.roles)
        F.cross_entropy(model(inputs), given).backward()
        if model is models[0]:
            optimizers.step()
        else:
            layer_retraining._step(optimizers, dict(model.named_parameters()), layer, config)
    plain, alone = (dict(model.named_parameters()) for model in models)
    assert layer.parameters == ("W_out", "b_out")
    assert all(torch.equal(alone[name], plain[name]) for name in layer.parameters)
    assert torch.equal(alone["W_in"], run.model.W_in) and not torch.equal(plain["W_in"], run.model.W_in)
    result = mm.analyse(run, "layer_retraining", steps=5)
    assert result.layers == ("W_in", "W_out") and bool((result.loss[:, 1] < result.loss[:, 0]).all())


@pytest.mark.parametrize("views", [False, True])
def test_image_networks_keep_their_running_statistics(views):
    task = mm.ImageConfig(train=40, test=20, noise=mm.LabelNoise(0.2))
    if views:
        from mechmem.tasks.image_config import Augmentation

        task = dataclasses.replace(task, augmentation=Augmentation(translate=0.2))
    model = mm.CNNConfig((4, 4), batch_norm=True)
    config = mm.TrainConfig(task=task, model=model, steps=8, lr=0.01, evaluations=1, checkpoints=1)
    run = mm.train(config, progress=False)
    before = {name: each.clone() for name, each in run.model.state_dict().items()}
    result = mm.analyse(run, "layer_retraining", steps=4, layers="layers.1.*")
    if not views:
        ids = run.task.train_ids
        ends = by_hand(run, config, "layers.1.conv.weight", ids, run.task.given(ids), 4)
        assert result.loss[0].tolist() == pytest.approx(ends, rel=1e-4)
    assert result.layers == ("layers.1.conv", "layers.1.norm")
    assert bool((result.loss[:, 1] < result.loss[:, 0]).all())
    assert all(torch.equal(each, before[name]) for name, each in run.model.state_dict().items())
    assert mm.analyse(run, "readout_retraining", steps=4).loss.isfinite().all()


@pytest.mark.parametrize("settings", [{"noise": 0}, {"known": False}])
def test_a_split_that_is_empty_or_not_known_reads_nothing(settings):
    result = mm.analyse(two_paths(**settings), "layer_retraining", steps=2)
    assert table(result)["train_noisy"].isna().all() and table(result)["test"].notna().all()


def test_what_is_missing_is_said():
    with pytest.raises(MissingNeedError, match="neither a run with step 0 nor a retrainer"):
        LayerRetraining()(two_paths(retrainer=False))
    for labels in ("true", "clean"):
        with pytest.raises(MissingNeedError, match=f"{labels} labels needs the true labels"):
            LayerRetraining(labels=labels)(two_paths(known=False))
    with pytest.raises(MissingNeedError, match="no training label is correct"):
        LayerRetraining(labels="clean")(two_paths(noise=1))
    for wrong in ({"steps": 0}, {"batch_size": -1}, {"seed": 1.5}):
        with pytest.raises(ConfigError):
            LayerRetraining(**wrong)
