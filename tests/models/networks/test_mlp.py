import numpy as np
import pytest
import scipy.special
import torch

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.networks.nonlinearities import NONLINEARITIES, nonlinearity

PHI = {
    "relu": lambda x: np.maximum(x, 0),
    "reverse_relu": lambda x: np.maximum(-x, 0),
    "quadratic": np.square,
    "gelu": lambda x: x * (1 + scipy.special.erf(x / np.sqrt(2))) / 2,
}


def grid(p):
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def one_hot_network(model, pairs):
    """f(a, b) = W φ(U e_a + V e_b) + μ, written with one-hot vectors."""
    p, config = model.p, model.config
    w_in = model.W_in.detach().numpy()
    U, V = (w_in, w_in) if config.tied else (w_in[:p], w_in[p:])
    eye = np.eye(p)
    pre = eye[pairs[:, 0]] @ U + eye[pairs[:, 1]] @ V
    hidden = PHI[config.activation](pre)
    logits = hidden @ model.W_out.detach().numpy()
    return pre, hidden, logits + (model.b_out.detach().numpy() if config.bias else 0)


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_equals_the_one_hot_network(activation, bias, tied, draw):
    p = 6
    model = HookedMLP(mm.MLPConfig(width=9, activation=activation, bias=bias, tied=tied), p, seed=1).double()
    if bias:
        model.b_out.data = torch.randn(p, generator=draw, dtype=torch.float64)
    pairs = grid(p)
    labels = pairs.sum(1) % p
    subject = mm.Subject(model, mm.ArrayTask(pairs, labels, labels, torch.arange(36) < 30), model.roles)
    found = mm.activations(subject, ids=torch.arange(36))
    for name, expected in zip(
        ("hook_pre", "hook_hidden", "hook_logits"), one_hot_network(model, pairs.numpy()), strict=True
    ):
        np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(model(pairs).detach().numpy(), one_hot_network(model, pairs.numpy())[2], atol=1e-12)
    assert set(dict(model.named_parameters())) == {"W_in", "W_out"} | ({"b_out"} if bias else set())


def test_every_activation_is_compared():
    assert set(PHI) == set(NONLINEARITIES)
    with pytest.raises(UnknownNameError, match="no activation 'quadratc'. Did you mean 'quadratic'"):
        nonlinearity("quadratc")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_roles_are_the_matrices_of_the_formula(bias, tied):
    model = HookedMLP(mm.MLPConfig(width=4, bias=bias, tied=tied), 5)
    roles = model.roles
    embedding = roles.input_embedding.read(model)
    assert embedding.shape == (2, 5, 4)
    assert torch.equal(embedding[0], model.W_in[:5]) and torch.equal(embedding[1], model.W_in[0 if tied else 5 :])
    assert torch.equal(roles.readout.read(model), model.W_out)
    assert (roles.bias is None) != bias
    if bias:
        assert torch.equal(roles.bias.read(model), model.b_out)
    assert model.get_submodule(roles.activation) is model.activation
    assert roles.hidden == ("hook_hidden",) and roles.logits == "hook_logits"


@pytest.mark.parametrize(
    "init, std_in, std_out",
    [
        ("liu_lu_2026", (2 * 61) ** -0.5, 1024**-0.5),
        ("doshi_2024", (16 * 1024) ** (-1 / 3), (16 * 1024) ** (-1 / 3)),
        ("pytorch", (2 * 61) ** -0.5 / 3**0.5, 1024**-0.5 / 3**0.5),
    ],
)
def test_initialisations_have_the_spread_they_are_named_for(init, std_in, std_out):
    model = HookedMLP(mm.MLPConfig(width=1024, init=init, bias=True), 61, seed=0)
    n_in, n_out = model.W_in.numel(), model.W_out.numel()
    assert model.W_in.std().item() == pytest.approx(std_in, rel=4 / (2 * n_in) ** 0.5)
    assert model.W_out.std().item() == pytest.approx(std_out, rel=4 / (2 * n_out) ** 0.5)
    assert abs(model.W_in.mean().item()) < 4 * std_in / n_in**0.5
    assert (model.b_out == 0).all()
    uniform = init == "pytorch"
    assert (model.W_in.abs().max().item() <= 3**0.5 * std_in + 1e-6) == uniform


def test_doshi_is_the_paper_s_number():
    # std 0.5 / (2N)^(1/3), as the authors' code writes it.
    width = 500
    model = HookedMLP(mm.MLPConfig(width=width, init="doshi_2024"), 97)
    assert model.W_in.std().item() == pytest.approx(0.5 / (2 * width) ** (1 / 3), rel=0.02)


def test_one_seed_one_network():
    first, again, other = (HookedMLP(mm.MLPConfig(width=8), 5, seed).W_out for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_widths_up_to_the_limit_are_built():
    assert HookedMLP(mm.MLPConfig(width=16384), 2).W_in.shape == (4, 16384)
    assert HookedMLP(mm.MLPConfig(width=1), 2)(grid(2)).shape == (4, 2)


def test_a_model_must_fit_its_task():
    pairs = grid(4)
    labels = pairs.sum(1) % 2
    task = mm.ArrayTask(pairs, labels, labels, torch.arange(16) < 9)
    with pytest.raises(ConfigError, match="as many classes as symbols; the task has 2 and 4"):
        build_model(mm.MLPConfig(), task, 0)
