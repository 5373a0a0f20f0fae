"""Amplitudes against numpy, planted rules against planted memory, and BatchNorm's factor where there is one."""

import numpy as np
import pytest
import scipy.stats
import torch
from plugin_names import score

import mechmem as mm
from mechmem.analyses.neurons.amplification import Amplification, AmplificationResult
from mechmem.errors import MissingNeedError
from mechmem.models.networks.mlp import HookedMLP


def network(**settings):
    task = mm.ModularTask(mm.ModularConfig(p=7, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(**{"width": 9, "activation": "quadratic", **settings}), 7).double()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if "norm" in name and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
        if model.last_norm is not None:
            model.last_norm.weight *= torch.tensor([1.0, -1.0, 1.0] * 3)
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_equals_numpy(layers, batch_norm):
    subject = network(layers=layers, batch_norm=batch_norm)
    model, task = subject.model, subject.task
    result = Amplification()(subject)
    eye, pairs = np.eye(7), task.batch(task.train_ids)[0].numpy()
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    hidden = np.hstack([eye[pairs[:, 0]], eye[pairs[:, 1]]]) @ weights["W_in"]
    for layer in range(layers):
        prefix = f"deeper.{layer - 1}." if layer else ""
        hidden = np.square(hidden @ weights[f"{prefix}W"] if layer else hidden)
        if batch_norm:
            norm = {name: weights[f"{prefix}norm.{name}"] for name in ("weight", "bias", "running_mean", "running_var")}
            normalised = (hidden - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5)
            hidden = normalised * norm["weight"] + norm["bias"]
    readout = np.linalg.norm(weights["W_out"], axis=1)
    np.testing.assert_allclose(result.norm, readout, rtol=1e-9)
    np.testing.assert_allclose(result.std, hidden.std(0), rtol=1e-9)
    np.testing.assert_allclose(result.amplitude, readout * hidden.std(0), rtol=1e-9)
    if batch_norm:
        np.testing.assert_allclose(result.gamma, np.abs(norm["weight"]))
        np.testing.assert_allclose(result.amplitude, result.gamma.numpy() * readout * normalised.std(0), rtol=1e-9)
    else:
        assert result.gamma.isnan().all() and result.note == "no γ: the network has no BatchNorm"
    assert torch.equal(result.ipr, score("ipr")(subject).values)
    assert result.point == model.roles.hidden[-1]
    rho = scipy.stats.spearmanr(result.amplitude, result.ipr).statistic
    assert result.spearman.value == pytest.approx(rho)
    assert result.spearman.low <= rho <= result.spearman.high and result.spearman.n == 9


def test_memory_that_was_turned_down_shows():
    planted = mm.planted_network(11, memorized_fraction=0.3, dtype=torch.float64)
    subject = planted.subject
    model = subject.copy_model()
    with torch.no_grad():
        model.W_out[planted.memorizing] *= 1e-3
    result = Amplification()(subject.with_model(model))
    frame = result.to_frame()
    assert result.amplitude[planted.memorizing].max() < result.amplitude[~planted.memorizing].min()
    assert (result.ipr[planted.memorizing] < 0.5).all() and torch.allclose(
        result.ipr[~planted.memorizing], torch.ones(1, dtype=torch.float64)
    )
    assert result.spearman.low > 0.5
    for name, rows in frame.groupby("ipr_class"):
        ipr = rows["ipr"]
        assert {"low": (ipr < 0.1).all(), "high": (ipr > 0.9).all(), "middle": ipr.between(0.1, 0.9).all()}[name]
        assert np.allclose(rows["class_amplitude"], rows["amplitude"].mean())
        assert rows["class_gamma"].isna().all()


def test_means_of_gamma_are_taken_within_classes():
    result = Amplification()(network(batch_norm=True))
    frame = result.to_frame()
    for _, rows in frame.groupby("ipr_class"):
        assert np.allclose(rows["class_gamma"], rows["gamma"].mean())


def test_neurons_that_are_all_alike_have_no_rank_correlation(tmp_path):
    result = Amplification()(mm.planted_network(7, dtype=torch.float64).subject)
    assert result.spearman is None
    assert "rank correlation constant" in result.plot().data[0].name
    result.save(tmp_path / "r.safetensors")
    assert AmplificationResult.load(tmp_path / "r.safetensors").spearman is None


def test_silent_neurons_are_counted_and_not_drawn():
    subject = network()
    with torch.no_grad():
        subject.model.W_out[:2] = 0
    trace = Amplification()(subject).plot().data[0]
    assert (
        len(trace.x) == 7 and "2 of amplitude 0 not drawn" in trace.name and list(trace.customdata) == list(range(2, 9))
    )


def test_another_network_s_batchnorm_is_not_guessed():
    subject = network()

    class Own(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            self.norm = torch.nn.BatchNorm1d(9)

        def forward(self, pairs):
            return self.inner(pairs)

    roles = mm.Roles(
        input_embedding=mm.Role("inner.W_in", "(operand p) neuron -> operand p neuron", {"operand": 2}),
        readout=mm.Role("inner.W_out", "neuron classes -> neuron classes"),
        hidden=("inner.hook_hidden",),
    )
    result = Amplification()(mm.Subject(Own(subject.model), subject.task, roles))
    assert result.gamma.isnan().all() and "only mechmem's own networks" in result.note
    with pytest.raises(MissingNeedError, match="role:hidden"):
        Amplification()(mm.Subject(subject.model, subject.task, mm.Roles()))
    wrong = mm.Roles(roles.input_embedding, roles.readout, hidden=("inner.hook_logits",))
    with pytest.raises(MissingNeedError, match="holds"):
        Amplification()(mm.Subject(Own(subject.model), subject.task, wrong))
