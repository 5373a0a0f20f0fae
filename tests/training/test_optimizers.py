"""Steps of the real training step against plain torch loops on one-hot inputs, in float64."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.training.loop import training_step
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers

P, WIDTH = 7, 16
TASK = mm.ModularTask(mm.ModularConfig(p=P, noise=mm.LabelNoise(0.3)))
INPUTS, GIVEN = TASK.batch(TASK.train_ids)
EXAMPLES = Batch(TASK.train_ids, INPUTS, GIVEN)


def network(*, tied=False, bias=True, dtype=torch.float64, activation="relu"):
    return HookedMLP(mm.MLPConfig(width=WIDTH, tied=tied, bias=bias, activation=activation), P, seed=2).to(dtype)


def plain_loss(U, V, W, mu, loss, activation=torch.relu):
    """One-hot full-batch loss; U and V are neuron × p, W is p × neuron."""
    a, b = F.one_hot(INPUTS, P).to(U.dtype).unbind(1)
    logits = activation(a @ U.T + b @ V.T) @ W.T + (0 if mu is None else mu)
    if loss == "cross_entropy":
        return F.cross_entropy(logits, GIVEN)
    return ((logits - F.one_hot(GIVEN, P)) ** 2).mean()


def plain_parameters(model):
    """U, V (neuron × p), W (p × neuron), μ as leaves of their own; U is V where they are tied."""
    U = model.W_in.detach()[:P].T.clone().requires_grad_()
    V = U if model.config.tied else model.W_in.detach()[P:].T.clone().requires_grad_()
    W = model.W_out.detach().T.clone().requires_grad_()
    mu = None if model.b_out is None else model.b_out.detach().clone().requires_grad_()
    return U, V, W, mu


def compare(model, U, V, W, mu, **tolerance):
    rows = U.T if model.config.tied else torch.cat([U.T, V.T])
    torch.testing.assert_close(model.W_in.detach(), rows.detach(), **tolerance)
    torch.testing.assert_close(model.W_out.detach(), W.T.detach(), **tolerance)
    if mu is not None:
        torch.testing.assert_close(model.b_out.detach(), mu.detach(), **tolerance)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("rows", [1, 7, 16, 39, 1000])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_of_row_blocks_are_those_of_the_full_batch(loss, rows, tied):
    model = network(tied=tied)
    config = mm.TrainConfig(loss=loss, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0)
    U, V, W, mu = plain_parameters(model)
    expected = plain_loss(U, V, W, mu, loss)
    expected.backward()
    found = training_step(model, Optimizers(config, model, model.roles), EXAMPLES, config, rows, ())
    # Logits are float32 in the loss: the gradients carry its rounding.
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    gradient = U.grad.T if tied else torch.cat([U.grad.T, V.grad.T])
    torch.testing.assert_close(model.W_in.grad, gradient, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.W_out.grad, W.grad.T, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.b_out.grad, mu.grad, rtol=1e-5, atol=1e-7)


PLAIN = {
    "adam": lambda c, ps: torch.optim.Adam(ps, lr=c.lr, weight_decay=c.weight_decay, betas=c.betas),
    "adamw": lambda c, ps: torch.optim.AdamW(ps, lr=c.lr, weight_decay=c.weight_decay, betas=c.betas),
    "sgd": lambda c, ps: torch.optim.SGD(ps, lr=c.lr, weight_decay=c.weight_decay, momentum=c.momentum),
}


def run(model, config, steps=6):
    optimizers = Optimizers(config, model, model.roles)
    for _ in range(steps):
        training_step(model, optimizers, EXAMPLES, config, rows=11, masks=())
    return optimizers


@pytest.mark.parametrize("optimizer", PLAIN)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("tied, bias", [(False, True), (True, False)])
def test_a_few_steps_equal_a_plain_loop(optimizer, loss, tied, bias):
    config = mm.TrainConfig(optimizer=optimizer, loss=loss, lr=0.05, weight_decay=0.3, betas=(0.8, 0.95), momentum=0.7)
    model = network(tied=tied, bias=bias)
    U, V, W, mu = plain_parameters(model)
    leaves = list({id(leaf): leaf for leaf in (U, V, W, mu) if leaf is not None}.values())
    plain = PLAIN[optimizer](config, leaves)
    run(model, config)
    for _ in range(6):
        plain.zero_grad()
        plain_loss(U, V, W, mu, loss).backward()
        plain.step()
    compare(model, U, V, W, mu, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_muon_sees_u_and_v_as_neuron_by_p_and_w_as_p_by_neuron(tied, bias):
    config = mm.TrainConfig(optimizer="muon", lr=0.02, weight_decay=0.3, momentum=0.8, betas=(0.8, 0.95))
    model = network(tied=tied, bias=bias)
    U, V, W, mu = plain_parameters(model)
    matrices = [U, W] if tied else [U, V, W]
    plain = [torch.optim.Muon(matrices, lr=0.02, weight_decay=0.3, momentum=0.8)]
    if bias:
        plain.append(torch.optim.AdamW([mu], lr=0.02, weight_decay=0.3, betas=(0.8, 0.95)))
    run(model, config, steps=4)
    for _ in range(4):
        loss = plain_loss(U, V, W, mu, "cross_entropy")
        for leaf in (U, V, W, mu):
            if leaf is not None:
                leaf.grad = None
        loss.backward()
        for part in plain:
            part.step()
    # Muon orthogonalises in bfloat16, where a rounding that falls the other way is worth 1e-2 of a step.
    compare(model, U, V, W, mu, rtol=0, atol=2e-3)
    # Any other way to stand the matrices would have moved them elsewhere: Muon's step depends on their shape.
    stacked = network(tied=tied, bias=bias)
    wrong = torch.optim.Muon([stacked.W_in, stacked.W_out], lr=0.02, weight_decay=0.3, momentum=0.8)
    for _ in range(4):
        stacked.zero_grad()
        F.cross_entropy(stacked(INPUTS), GIVEN).backward()
        wrong.step()
    assert (stacked.W_out - model.W_out).abs().max() > 5e-3


def test_muon_trains_the_parameters_themselves():
    model = network(dtype=torch.float32)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    run(model, mm.TrainConfig(optimizer="muon", lr=0.02), steps=1)
    assert all((parameter != before[name]).any() for name, parameter in model.named_parameters())


def test_muon_needs_to_know_the_matrices():
    with pytest.raises(ConfigError, match="roles input_embedding and readout"):
        Optimizers(mm.TrainConfig(optimizer="muon"), network(), mm.Roles())


def test_bf16_products_stay_close_to_fp32_and_weights_stay_float32():
    ends = {}
    for precision in ("fp32", "bf16"):
        config = mm.TrainConfig(precision=precision, lr=0.01)
        model = network(dtype=torch.float32)
        optimizers = Optimizers(config, model, model.roles)
        losses = [training_step(model, optimizers, EXAMPLES, config, 16, ()).item() for _ in range(40)]
        assert model.W_in.dtype == torch.float32
        assert all(t.dtype == torch.float32 for t in optimizers.state_tensors().values())
        ends[precision] = losses, model.W_out.detach().clone()
    assert ends["fp32"][0] != ends["bf16"][0]
    torch.testing.assert_close(torch.tensor(ends["bf16"][0]), torch.tensor(ends["fp32"][0]), rtol=0.03, atol=0.01)
    difference = (ends["bf16"][1] - ends["fp32"][1]).norm() / ends["fp32"][1].norm()
    assert 0 < difference < 0.05


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "muon"])
@pytest.mark.parametrize("bias", [False, True])
def test_state_that_was_saved_goes_on_to_the_same_bits(optimizer, bias):
    config = mm.TrainConfig(optimizer=optimizer, lr=0.02)
    model = network(bias=bias, dtype=torch.float32)
    optimizers = run(model, config, steps=5)
    saved = {name: tensor.clone() for name, tensor in optimizers.state_tensors().items()}
    assert saved
    other = copy.deepcopy(model)
    restored = Optimizers(config, other, other.roles)
    restored.load_state_tensors(saved)
    for _ in range(5):
        training_step(model, optimizers, EXAMPLES, config, 16, ())
        training_step(other, restored, EXAMPLES, config, 16, ())
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert all(torch.equal(t, restored.state_tensors()[name]) for name, t in optimizers.state_tensors().items())


def test_state_of_another_optimiser_or_shape_is_refused():
    model = network(dtype=torch.float32)
    saved = run(model, mm.TrainConfig(lr=0.01), steps=1).state_tensors()
    narrow = HookedMLP(mm.MLPConfig(width=WIDTH - 1), P)
    with pytest.raises(RunDirectoryError, match="does not fit this network"):
        Optimizers(mm.TrainConfig(), narrow, narrow.roles).load_state_tensors(saved)
    for foreign in ({"W_in": torch.zeros(2)}, {"a.b.c": torch.zeros(2)}, {"0.99.exp_avg": torch.zeros(2)}):
        with pytest.raises(RunDirectoryError):
            Optimizers(mm.TrainConfig(), model, model.roles).load_state_tensors(foreign)


def test_weight_decay_is_decoupled_only_where_it_says_so():
    # Without a gradient decoupled decay shrinks the weights; decay in the gradient makes Adam step by its sign.
    for optimizer, expected in (("adamw", 1 - 0.1 * 0.5), ("sgd", 1 - 0.1 * 0.5), ("muon", 1 - 0.1 * 0.5)):
        model = network(dtype=torch.float64, bias=False)
        before = model.W_out.detach().clone()
        config = dataclasses.replace(mm.TrainConfig(), optimizer=optimizer, lr=0.1, weight_decay=0.5)
        optimizers = Optimizers(config, model, model.roles)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizers.step()
        torch.testing.assert_close(model.W_out.detach(), before * expected)
