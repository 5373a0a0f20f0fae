"""The norm budget against finite differences, and against what gradient descent does."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plugin_names import score

import mechmem as mm
from mechmem.analyses.neurons.norm_drive import NormChange, NormDrive
from mechmem.errors import MissingNeedError, RoleError
from mechmem.models.networks.mlp import HookedMLP


def subject_of(p=7, width=6, tied=False, noise=0.3, **run) -> mm.Subject:
    distribution = "symmetric" if tied else "wrong"
    config = mm.ModularConfig(p=p, train_fraction=0.7, noise=mm.LabelNoise(noise, distribution))
    model = HookedMLP(mm.MLPConfig(width=width, tied=tied, activation="quadratic"), p).double()
    return mm.Subject(model, mm.ModularTask(config), model.roles, **run)


def split_loss(model, task, noisy):
    """The loss over the clean or the noisy examples, over the number of all training examples."""
    ids = task.train_ids[task.noisy == noisy]
    inputs, given = task.batch(ids)
    return float(F.cross_entropy(model(inputs), given, reduction="sum")) / len(task.train_ids)


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_drive_is_the_finite_difference_of_the_loss_as_a_neuron_grows(tied):
    subject = subject_of(tied=tied)
    result = NormDrive()(subject)
    h = 1e-5
    for neuron in range(6):
        for noisy, found in ((False, result.clean), (True, result.noisy)):
            ends = []
            for scale in (1 + h, 1 - h):
                model = subject.copy_model()
                model.W_in[:, neuron] *= scale
                model.W_out[neuron] *= scale
                ends.append(split_loss(model, subject.task, noisy))
            assert float(found[neuron]) == pytest.approx(-(ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-10)
    wanted = subject.model.W_in.square().sum(0) + subject.model.W_out.square().sum(1)
    assert torch.allclose(result.norm, wanted, rtol=1e-12)


def test_clean_and_noisy_add_up_to_the_gradient_of_the_training_loss():
    subject = subject_of()
    model, task = subject.copy_model(), subject.task
    inputs, given = task.batch(task.train_ids)
    F.cross_entropy(model(inputs), given).backward()
    total = (model.W_in * model.W_in.grad).sum(0) + (model.W_out * model.W_out.grad).sum(1)
    result = NormDrive()(subject)
    assert torch.allclose(result.clean + result.noisy, -total.detach(), rtol=1e-10, atol=1e-14)
    assert np.allclose(result.to_frame()["total"], -total.detach(), rtol=1e-10, atol=1e-14)


def test_row_blocks_add_up(monkeypatch):
    subject = subject_of()
    whole = NormDrive()(subject)
    monkeypatch.setattr("mechmem.analyses.neurons.norm_drive.block_rows", lambda _model: 5)
    parts = NormDrive()(dataclasses.replace(subject))
    assert torch.allclose(parts.clean, whole.clean, rtol=1e-12) and torch.allclose(parts.noisy, whole.noisy, rtol=1e-12)


def test_without_noise_the_noisy_drive_is_nothing():
    assert float(NormDrive()(subject_of(noise=0.0)).noisy.abs().max()) == 0


def test_the_budget_is_what_a_small_step_of_gradient_descent_does(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, optimizer="sgd", momentum=0.0, lr=1e-4, weight_decay=0.5, loss="mse")
    config = dataclasses.replace(config, steps=1)
    run = mm.train(config, out=tmp_path / "sgd", progress=False)
    start = mm.load(tmp_path / "sgd", step=0)
    budget, change = NormDrive()(start), NormDrive().realised(run)
    assert budget.loss == "mse" and budget.note == ""
    predicted = config.lr * (budget.clean + budget.noisy + budget.decay)
    realised = torch.from_numpy(change.to_frame()["change"].to_numpy(copy=True))
    assert torch.allclose(realised, predicted, rtol=2e-2, atol=2e-7)
    assert float(predicted.abs().mean()) > 1e-5


def test_realised_changes_telescope_over_the_checkpoints(tiny_run, tmp_path):
    change = NormDrive().realised(tiny_run)
    assert change.step.tolist() == tiny_run.run.checkpoint_steps()
    total = change.to_frame().groupby("neuron")["change"].sum().to_numpy()
    first, last = (NormDrive()(tiny_run.with_model(tiny_run.run.model_at(step))).norm for step in (0, 30))
    np.testing.assert_allclose(total, ((last - first) / 2).numpy(), rtol=1e-6, atol=1e-9)
    assert len(change.plot().data)
    change.save(tmp_path / "c.safetensors")
    assert NormChange.load(tmp_path / "c.safetensors").to_frame().equals(change.to_frame())


def test_neurons_carry_their_frequency_and_quarters_are_ranked_by_ipr(planted):
    result = NormDrive()(planted.subject)
    rule = planted.frequency > 0
    assert torch.equal(result.key[rule], planted.frequency[rule])
    assert torch.allclose(result.ipr, score("ipr")(planted.subject).values)
    assert "assumed" in result.note and result.decay is None
    summary = result.summary().set_index(["neurons", "quantity"])
    frame = result.to_frame().sort_values("ipr", kind="stable")
    top = frame.iloc[round(len(frame) * 0.75) :]
    assert summary.loc[("highest IPR quarter", "noisy"), "value"] == pytest.approx(top["noisy"].mean())
    assert summary.loc[("all", "noisy − clean"), "value"] == pytest.approx((frame["noisy"] - frame["clean"]).mean())
    assert "decay" not in summary.index.get_level_values("quantity")


def test_the_networks_mode_and_gradients_are_left_alone():
    subject = subject_of()
    subject.model.train()
    NormDrive()(subject)
    assert subject.model.training and all(parameter.grad is None for parameter in subject.model.parameters())


def test_what_does_not_fit_is_refused(tiny_run):
    bare = mm.Subject(tiny_run.model, tiny_run.task, tiny_run.roles)
    with pytest.raises(MissingNeedError, match="needs a run"):
        NormDrive().realised(bare)
    deep = dataclasses.replace(tiny_run.roles, hidden=("a", "b"))
    with pytest.raises(MissingNeedError, match="one layer"):
        NormDrive()(dataclasses.replace(bare, roles=deep))
    turned = dataclasses.replace(tiny_run.roles, readout=mm.Role("W_out", "neuron classes -> classes neuron"))
    with pytest.raises(RoleError, match="must read as"):
        NormDrive()(dataclasses.replace(bare, roles=turned))


def test_a_neuron_without_energy_has_no_key_frequency():
    subject = subject_of()
    with torch.no_grad():
        subject.model.W_in[:, 2] = 0
        subject.model.W_out[2] = 0
    key = NormDrive()(subject).key
    assert key[2] == 0 and bool((key[[0, 1, 3, 4, 5]] > 0).all())
