"""Training with dropout, BatchNorm and several layers: modes, whole batches, and resuming to the same bits."""

import dataclasses

import pytest
import safetensors.torch
import torch
from interrupted import contents, stop_at

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.training import loop
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder

BASE = mm.TrainConfig(
    task=mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
    model=mm.MLPConfig(width=12, bias=True),
    steps=20,
    lr=0.01,
    evaluations=5,
    checkpoints=3,
)
# Checkpoints at 0, 1, 4, 20; 18 training examples.


def config(model=None, **changed):
    return dataclasses.replace(BASE, model=dataclasses.replace(BASE.model, **(model or {})), **changed)


CONFIGS = {
    "dropout": config({"dropout": 0.4}),
    "dropout, minibatches": config({"dropout": 0.4}, batch_size=4),
    "norm": config({"batch_norm": True}),
    "norm, minibatches": config({"batch_norm": True}, batch_size=4),
    "everything, muon": config({"batch_norm": True, "dropout": 0.2, "layers": 3}, optimizer="muon", batch_size=5),
    "everything, bf16": config({"batch_norm": True, "dropout": 0.2, "layers": 2}, precision="bf16", optimizer="adam"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for name, settings in CONFIGS.items():
        mm.train(settings, out=folder / name, progress=False)
    return {name: contents(folder / name) for name in CONFIGS}


PLACES = {
    "before a step": (Optimizers, "zero_grad", 8, True),
    "after a forward pass": (loop, "loss_of", 8, True),
    "before an update": (Optimizers, "step", 8, True),
    "after an update": (Optimizers, "step", 8, False),
    "before its evaluation": (Recorder, "__call__", 12, True),
    "after its evaluation": (Recorder, "__call__", 12, False),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_interrupted_anywhere_resumes_to_the_same_bits(name, place, whole, tmp_path, monkeypatch):
    owner, call, count, before = PLACES[place]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, owner, call, count, KeyboardInterrupt(), before=before)
        mm.train(CONFIGS[name], out=tmp_path / "run", progress=False)
    reached = mm.load(tmp_path / "run").run.checkpoint_steps()[-1]
    assert 4 < reached < 20
    mm.train(CONFIGS[name], out=tmp_path / "run", progress=False)
    assert contents(tmp_path / "run") == whole[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_how_often_it_looks_changes_nothing(name, whole, tmp_path):
    """An evaluation neither draws masks nor moves the running statistics, and training goes on in training mode."""
    more = dataclasses.replace(CONFIGS[name], evaluations=20, checkpoints=2)
    found = mm.train(more, out=tmp_path / "run", progress=False).model.state_dict()
    expected = safetensors.torch.load(whole[name]["checkpoints/step_20.safetensors"])
    assert all(torch.equal(found[each], expected[each]) for each in {**found, **expected})


def test_masks_are_new_at_every_step(monkeypatch):
    drawn = []
    original = loop.training_step

    def watched(model, *rest):
        handle = model.dropout.register_forward_hook(lambda _m, _i, output: drawn.append(output == 0))
        result = original(model, *rest)
        handle.remove()
        return result

    monkeypatch.setattr(loop, "training_step", watched)
    mm.train(CONFIGS["dropout"], progress=False)
    assert len(drawn) == 20
    assert all(not torch.equal(one, two) for i, one in enumerate(drawn) for two in drawn[:i])
    assert abs(torch.cat(drawn).double().mean() - 0.4) < 0.03


def small_blocks(monkeypatch, settings):
    monkeypatch.setattr(loop, "block_rows", lambda _model: 4)
    return mm.train(settings, progress=False).model


def test_blocks_of_rows_draw_the_masks_of_the_whole_batch(monkeypatch):
    settings = config({"dropout": 0.4, "layers": 2}, optimizer="sgd", lr=0.1)
    one, two = mm.train(settings, progress=False).model, small_blocks(monkeypatch, settings)
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_a_network_with_batchnorm_takes_whole_batches(monkeypatch):
    one = mm.train(CONFIGS["norm"], progress=False).model
    two = small_blocks(monkeypatch, CONFIGS["norm"])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert int(one.norm.num_batches_tracked) == 20


def test_batchnorm_trains_by_plain_torch(tmp_path):
    """Five steps of the loop against the same network written with nn.Linear, nn.BatchNorm1d and torch.optim."""
    settings = config({"batch_norm": True, "bias": False}, steps=5, loss="mse", precision="fp32")
    subject = mm.train(settings, out=tmp_path / "run", progress=False)
    start = subject.run.model_at(0)
    plain = torch.nn.Sequential(
        torch.nn.Linear(10, 12, bias=False),
        torch.nn.ReLU(),
        torch.nn.BatchNorm1d(12),
        torch.nn.Linear(12, 5, bias=False),
    )
    with torch.no_grad():
        plain[0].weight.copy_(start.W_in.T)
        plain[3].weight.copy_(start.W_out.T)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.1)
    pairs, given = subject.task.batch(subject.task.train_ids)
    one_hot = torch.cat([torch.eye(5)[pairs[:, 0]], torch.eye(5)[pairs[:, 1]]], 1)
    for _ in range(5):
        optimizer.zero_grad()
        (plain(one_hot) - torch.eye(5)[given]).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(subject.model.W_in.T, plain[0].weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(subject.model.norm.weight, plain[2].weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(subject.model.norm.running_var, plain[2].running_var, rtol=1e-3, atol=1e-5)


def test_modes_during_and_after_training(tmp_path, monkeypatch):
    seen = []
    original = loop.training_step
    monkeypatch.setattr(
        loop, "training_step", lambda model, *rest: seen.append(model.training) or original(model, *rest)
    )
    subject = mm.train(CONFIGS["everything, muon"], out=tmp_path / "run", progress=False)
    assert seen == [True] * 20
    handed_out = [
        subject.model,
        mm.train(CONFIGS["everything, muon"], out=tmp_path / "run", progress=False).model,
        mm.load(tmp_path / "run").model,
        mm.load(tmp_path / "run", step=4).model,
        *(subject.retrainer.twin(kind) for kind in ("untrained", "one_step", "noise_only")),
    ]
    assert not any(module.training for model in handed_out for module in model.modules())
    pairs = subject.task.batch(subject.task.ids)[0]
    assert torch.equal(subject.model(pairs), mm.load(tmp_path / "run").model(pairs))


def test_a_users_own_network_is_loaded_in_evaluation_mode_and_left_alone(tmp_path, tiny_run):
    model = HookedMLP(mm.MLPConfig(width=6, batch_norm=True), 5)
    recorder = mm.Recorder(model, tiny_run.task, steps=2, out=tmp_path / "run")
    recorder(0)
    loaded = mm.load(tmp_path / "run", model=model, task=tiny_run.task)
    assert model.training and not loaded.model.training


@pytest.mark.parametrize("size, n", [(1, 1), (17, 1)])
def test_a_step_of_one_example_is_refused_before_anything_is_written(size, n, tmp_path):
    settings = config({"batch_norm": True}, batch_size=size)
    with pytest.raises(ConfigError, match=f"with batch size {size} a step would see {n} of the 18"):
        mm.train(settings, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    mm.train(config(batch_size=size, steps=3), out=tmp_path / "run", progress=False)
