"""Gradients by layer and by kind of example against autograd, one mean loss at a time."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from two_paths import two_paths

import mechmem as mm
from mechmem.analyses.layers.gradient_accounting import ALL
from mechmem.models.reading.layer_parameters import parameter_layers

QUANTITIES = ["norm_clean", "norm_noisy", "norm", "cosine", "pull_clean", "pull_noisy", "share"]


def table(result):
    return result.to_frame().pivot(index="layer", columns="quantity", values="value")[QUANTITIES]


def gradients(subject, names, loss=F.cross_entropy):
    """The gradients of the mean loss of clean, of noisy, and of all training examples, over some parameters."""
    model, task, found = subject.copy_model().eval(), subject.task, []
    for ids in (task.splits["train_clean"], task.splits["train_noisy"], task.train_ids):
        model.zero_grad()
        inputs, given = task.batch(ids)
        loss(subject.roles.output.read(model(inputs)), given).backward()
        found.append(torch.cat([dict(model.named_parameters())[name].grad.flatten().double() for name in names]))
    return found


def by_autograd(subject, names, every):
    clean, noisy, total = gradients(subject, names)
    whole = gradients(subject, every)[2]
    n = [len(subject.task.splits[split]) for split in ("train_clean", "train_noisy")]
    pulls = [float(each @ total) * m / sum(n) / float(total @ total) for each, m in zip((clean, noisy), n, strict=True)]
    norms = [float(each.norm()) for each in (clean, noisy, total)]
    cosine = float(F.cosine_similarity(clean, noisy, dim=0))
    return [*norms, cosine, *pulls, float(total @ total) / float(whole @ whole)]


def small_cnn():
    task = mm.ImageTask(mm.ImageConfig(train=30, test=20, noise=mm.LabelNoise(0.4)))
    from mechmem.models.networks.images import HookedImageNetwork

    model = HookedImageNetwork(mm.CNNConfig((3, 4), batch_norm=True), task.shape, 10)
    model(task.batch(task.train_ids)[0])
    # In training mode: gradients are those of the evaluation mode all the same.
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize("make", [two_paths, small_cnn])
def test_equals_autograd(make, monkeypatch):
    subject = make()
    with torch.no_grad():
        for parameter in subject.model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    mode = subject.model.training
    result = mm.analyse(subject, "gradient_accounting")
    found, every = table(result), [name for name, _ in subject.model.named_parameters()]
    layers = [layer for layer in parameter_layers(subject.model, subject.roles) if layer.parameters]
    assert result.layers == tuple(layer.name for layer in layers)
    for layer in layers:
        wanted = by_autograd(subject, layer.parameters, every)
        assert found.loc[layer.name].tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert found.loc[ALL].tolist() == pytest.approx(by_autograd(subject, every, every), rel=1e-4, abs=1e-6)
    assert found.loc[list(result.layers), "share"].sum() == pytest.approx(1, rel=1e-12)
    assert (found["pull_clean"] + found["pull_noisy"]).tolist() == pytest.approx([1] * len(found), rel=1e-9)
    assert result.n_parameters == sum(each.numel() for each in subject.model.parameters())
    assert int(result.parameters.sum()) == result.n_parameters
    assert subject.model.training == mode and all(each.grad is None for each in subject.model.parameters())
    monkeypatch.setattr("mechmem.analyses.layers.gradient_accounting.block_rows", lambda _model: 4)
    parts = mm.analyse(dataclasses.replace(subject), "gradient_accounting")
    assert torch.allclose(parts.products, result.products, rtol=1e-4, atol=1e-9)


def test_a_planted_conflict_shows_in_the_layer_that_both_need():
    """At the start a rule's weights are pulled apart by its wrong labels; a memory gives each example its own."""
    subject = two_paths()
    subject = subject.with_model(subject.copy_model())
    with torch.no_grad():
        for layer in (subject.model.rule, subject.model.memory):
            layer.weight.zero_()
    found = table(mm.analyse(subject, "gradient_accounting"))
    assert found.loc["rule", "cosine"] < -0.4 and abs(found.loc["memory", "cosine"]) < 1e-12


def test_chosen_layers_are_shares_of_the_whole_network():
    subject = two_paths()
    every, chosen = (mm.analyse(subject, "gradient_accounting", layers=name) for name in ("", "memory"))
    assert chosen.layers == ("memory",) and torch.equal(chosen.whole, every.whole)
    assert table(chosen).loc["memory"].equals(table(every).loc["memory"])


def test_the_loss_is_the_run_s_and_over_a_run_each_checkpoint_is_measured(tiny_config):
    config = dataclasses.replace(tiny_config, loss="mse", steps=10)
    run = mm.train(config, progress=False)
    result = mm.analyse(run, "gradient_accounting")
    assert result.loss == "mse" and result.note == ""

    def squared(logits, given):
        return ((logits - F.one_hot(given, logits.shape[1])) ** 2).mean()

    total = gradients(run, ["W_in", "W_out"], squared)[2]
    assert float(result.whole[2, 2]) == pytest.approx(float(total @ total), rel=1e-4)
    curves = mm.over_training(run, "gradient_accounting")
    frame = curves.frame("gradient_accounting")
    last = frame.loc[(frame["step"] == 10) & (frame["layer"] == ALL)].set_index("quantity")["value"]
    assert last["norm"] == pytest.approx(float(total.norm()), rel=1e-4)
    assert set(frame["step"]) == set(run.run.checkpoint_steps())
    assert any("cosine" in str(each.text) for each in curves.plot().layout.annotations)


def test_without_known_truth_or_without_noise_the_rest_is_still_there():
    known = table(mm.analyse(two_paths(), "gradient_accounting"))
    result = mm.analyse(two_paths(known=False), "gradient_accounting")
    unknown = table(result)
    assert result.n.tolist() == [0, 0, 12] and "not known" in result.note
    assert unknown[["norm", "share"]].to_numpy() == pytest.approx(known[["norm", "share"]].to_numpy())
    assert unknown.drop(columns=["norm", "share"]).isna().all(axis=None) and len(result.plot().data)
    clean = table(mm.analyse(two_paths(noise=0), "gradient_accounting"))
    assert clean["norm_clean"].equals(clean["norm"].rename("norm_clean")) and clean["norm_noisy"].isna().all()
    assert clean[["cosine", "pull_noisy"]].isna().all(axis=None)
