"""Filtered activations against numpy's masks and a network that is run on them by hand."""

import numpy as np
import pytest
import torch
from small_transformer import small_transformer

import mechmem as mm
from mechmem.errors import ActivationError, MissingNeedError, UnknownNameError
from mechmem.models.hooks.points import hook_points
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.activations import activations
from mechmem.scorecard.readouts.neuron_filtration import NeuronFiltration
from mechmem.tasks.grid import grid_rows


def mlp(op="add", p=9, **settings):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=8, bias=True, **settings), p, seed=2).double()
    return mm.Subject(model, task, model.roles)


def modes_of(k, n):
    one = {(k, 0), (0, k), (k, k), (k, -k % n)}
    return {(i % n, j % n) for i, j in one} | {(-i % n, -j % n) for i, j in one}


def filtered(values, part):
    """Each neuron at the frequency whose modes hold the most energy in numpy's 2-D spectrum."""
    n = len(values)
    spectrum = np.fft.fft2(values, axes=(0, 1))
    mask = np.zeros(values.shape)
    for neuron in range(values.shape[2]):
        power = np.abs(spectrum[..., neuron]) ** 2
        energy = [sum(power[mode] for mode in modes_of(k, n)) for k in range(1, n // 2 + 1)]
        for mode in modes_of(1 + int(np.argmax(energy)), n):
            mask[(*mode, neuron)] = 1
    mask = mask if part == "G" else 1 - mask
    mask[0, 0] = 1
    return np.fft.ifft2(spectrum * mask, axes=(0, 1)).real


@pytest.mark.parametrize("part", ["G", "R"])
@pytest.mark.parametrize(("op", "p"), [("add", 9), ("subtract", 8), ("multiply", 7)])
def test_of_an_mlp_it_is_the_readout_of_numpy_s_masks(op, p, part):
    subject = mlp(op, p)
    rows = grid_rows(subject.task).numpy()
    held = activations(subject, "hook_hidden", ids=subject.task.ids)["hook_hidden"].numpy().copy()
    held[rows] = filtered(held[rows], part)
    w, bias = (role.read(subject.model).numpy() for role in (subject.roles.readout, subject.roles.bias))
    found = mm.extractor(f"neuron_filtration({part})")(subject)(subject.task.ids)
    np.testing.assert_allclose(found, held @ w + bias, atol=1e-12)


@pytest.mark.parametrize("part", ["G", "R"])
@pytest.mark.parametrize(("op", "p"), [("add", 7), ("multiply", 11)])
def test_of_a_transformer_only_the_answering_position_changes(op, p, part):
    """One block, so that the logits are the stream before the MLP plus what the filtered neurons write."""
    # A ReLU that fires on one cell has the same energy at every frequency; GELU leaves no such tie to rounding.
    subject = small_transformer(p, op, activation="gelu")
    ids, model = subject.task.ids, subject.model
    cached = activations(subject, ["blocks.0.mlp.hook_post", "blocks.0.hook_resid_mid"], ids=ids)
    held = cached["blocks.0.mlp.hook_post"][:, -1].numpy().copy()
    rows = grid_rows(subject.task).numpy()
    held[rows] = filtered(held[rows], part)
    stream = cached["blocks.0.hook_resid_mid"][:, -1].numpy()
    mlp_, unembed = model.blocks[0].mlp, model.unembed
    w_out, b_out, w_u, b_u = (x.detach().numpy() for x in (mlp_.W_out, mlp_.b_out, unembed.W_U, unembed.b_U))
    expected = (stream + held @ w_out + b_out) @ w_u + b_u
    found = mm.extractor(f"neuron_filtration({part})")(subject)(ids)
    np.testing.assert_allclose(found, expected, atol=1e-11)


@pytest.mark.parametrize("subject", [mlp(), small_transformer(layers=2)])
def test_a_prediction_does_not_depend_on_the_company_it_is_made_in(subject):
    predict = mm.extractor("neuron_filtration")(subject)
    everything = predict(subject.task.ids)
    for ids in (subject.task.test_ids.flip(0), subject.task.ids[:1], subject.task.ids[:0]):
        torch.testing.assert_close(predict(ids), everything[subject.task.rows(ids)].to(predict(ids).dtype))
    assert not any(point._forward_hooks or point.fwd_hooks for point in hook_points(subject.model).values())


# A planted memory fires on one cell, where every frequency has the same energy and rounding chooses, on each processor
# differently: enough cells are held out for a few unlucky choices not to matter.
@pytest.mark.parametrize(("op", "p"), [("add", 13), ("subtract", 15), ("multiply", 17)])
def test_a_planted_rule_survives_and_planted_memories_go(op, p):
    net = mm.planted_network(p, op=op, memorized_fraction=0.2, dtype=torch.float64)
    task = net.subject.task
    noisy = task.splits["train_noisy"]
    noisy = noisy[(task.operands[noisy] > 0).all(1)]
    inside = task.test_ids if op != "multiply" else task.test_ids[(task.operands[task.test_ids] > 0).all(1)]
    kept, rest = (mm.extractor(f"neuron_filtration({part})")(net.subject) for part in "GR")
    assert (kept(inside).argmax(1) == task.true(inside)).double().mean() > 0.9
    assert (kept(noisy).argmax(1) == task.given(noisy)).double().mean() < 0.3
    assert (rest(noisy).argmax(1) == task.given(noisy)).double().mean() > 0.7
    control = mm.extractor("neuron_filtration").control()
    assert control.name == "neuron_filtration(by=random)" and control.control() is None
    assert (control(net.subject)(inside).argmax(1) == task.true(inside)).double().mean() < 0.9


def test_any_hidden_layer_can_be_named():
    subject = small_transformer(layers=2)
    first, last = (f"blocks.{block}.mlp.hook_post" for block in (0, 1))
    default, named, other = (
        mm.extractor(name)(subject)(subject.task.ids)
        for name in ("neuron_filtration", f"neuron_filtration(point={last})", f"neuron_filtration(point={first})")
    )
    assert torch.equal(default, named) and (default - other).abs().max() > 1e-3
    with pytest.raises(UnknownNameError, match="layer of neurons"):
        NeuronFiltration(point="hook_embed")(subject)


def test_two_settings_do_not_share_their_memory():
    subject = small_transformer(11)
    tables = [
        mm.extractor(name)(subject)(subject.task.ids)
        for name in ("neuron_filtration", "neuron_filtration(by=random)", "neuron_filtration(by=random,seed=1)")
    ]
    assert all((tables[i] - tables[j]).abs().max() > 1e-6 for i in range(3) for j in range(i))


def test_refusals():
    subject = mlp()
    for settings in ({"part": "H"}, {"by": "x"}):
        with pytest.raises(LookupError, match="One of"):
            NeuronFiltration(**settings)
    with pytest.raises(MissingNeedError, match="role:hidden"):
        NeuronFiltration()(mm.Subject(subject.model, subject.task))
    with pytest.raises(MissingNeedError, match="no frequency"):
        NeuronFiltration()(mlp("multiply", 2))
    heads = small_transformer()
    with pytest.raises(ActivationError, match="axes are not"):
        NeuronFiltration()(mm.Subject(heads.model, heads.task, mm.Roles(hidden=heads.roles.heads)))(heads.task.ids)
