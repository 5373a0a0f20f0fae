"""Deeper networks, BatchNorm and dropout against the formula in numpy, and against what was built before them."""

import copy
import itertools

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.core.storage import read_tensors, write_tensors
from mechmem.errors import ConfigError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.dropout import StepDropout, begin_step, dropout_layers
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.scorecard.surgeries.activation import ActivationSwap
from mechmem.training.optimizers import Optimizers

PHI = {"relu": lambda x: np.maximum(x, 0), "quadratic": np.square}
P = 5
PAIRS = torch.cartesian_prod(torch.arange(P), torch.arange(P))


def task():
    labels = PAIRS.sum(1) % P
    return mm.ArrayTask(PAIRS, labels, labels, torch.arange(P * P) < 20)


def network(seed=1, **settings):
    """A network in float64 whose BatchNorm has seen data and has factors of its own."""
    model = HookedMLP(mm.MLPConfig(**{"width": 7, **settings}), P, seed).double()
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
            if "norm" in name and tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
    return model


def by_formula(model, *, training):
    """Every point of the network, written with one-hot vectors."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config, eye = model.config, np.eye(P)
    pre = np.hstack([eye[PAIRS[:, 0]], eye[PAIRS[:, 1]]]) @ state["W_in"]
    found = {}
    for layer in range(config.layers):
        prefix = "" if layer == 0 else f"deeper.{layer - 1}."
        if layer:
            pre = hidden @ state[f"{prefix}W"]
        found[f"{prefix}hook_pre"] = pre
        hidden = PHI[config.activation](pre)
        if config.batch_norm:
            found[f"{prefix}hook_post"] = hidden
            mean, variance = (state[f"{prefix}norm.running_{name}"] for name in ("mean", "var"))
            if training:
                mean, variance = hidden.mean(0), hidden.var(0)
            normalised = (hidden - mean) / np.sqrt(variance + 1e-5)
            hidden = normalised * state[f"{prefix}norm.weight"] + state[f"{prefix}norm.bias"]
        found[f"{prefix}hook_hidden"] = hidden
    bias = state["b_out"] if config.bias else 0
    return {**found, "hook_logits": hidden @ state["W_out"] + bias}


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("activation", PHI)
def test_equals_the_formula_at_every_point(layers, batch_norm, activation):
    model = network(layers=layers, batch_norm=batch_norm, activation=activation, bias=True)
    wanted = by_formula(model, training=False)
    found = mm.activations(mm.Subject(model, task(), model.roles), ids=torch.arange(P * P))
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-9, atol=1e-12)
    trained = by_formula(model, training=True)["hook_logits"]
    np.testing.assert_allclose(model.train()(PAIRS).detach().numpy(), trained, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("settings", [{"layers": 3}, {"batch_norm": True}, {"layers": 2, "batch_norm": True}])
def test_roles_name_the_layers_and_the_logits_are_linear_in_the_last(settings):
    model = network(**settings, bias=True)
    deeper = range(settings.get("layers", 1) - 1)
    assert model.roles.hidden == ("hook_hidden", *(f"deeper.{i}.hook_hidden" for i in deeper))
    names = model.roles.activation
    names = (names,) if isinstance(names, str) else names
    assert [model.get_submodule(name) for name in names] == [
        model.activation, *(layer.activation for layer in model.deeper)
    ]  # fmt: skip
    subject = mm.Subject(model, task(), model.roles)
    assert linear_readout(subject).point == model.roles.hidden[-1]
    swapped = ActivationSwap("quadratic")(subject).model
    wanted = by_formula(network(**settings, bias=True, activation="quadratic"), training=False)["hook_logits"]
    np.testing.assert_allclose(swapped.eval()(PAIRS).detach().numpy(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("init", ["liu_lu_2026", "doshi_2024", "pytorch"])
def test_one_layer_is_drawn_as_it_always_was_and_deeper_ones_after_it(init):
    width, p, draw = 600, 7, generator(5, "init")
    shallow = HookedMLP(mm.MLPConfig(width=width, init=init), p, 5)
    deep = HookedMLP(mm.MLPConfig(width=width, init=init, layers=3, batch_norm=True, dropout=0.5), p, 5)
    spread = {
        "liu_lu_2026": ((2 * p) ** -0.5, width**-0.5),
        "doshi_2024": ((16 * width) ** (-1 / 3),) * 2,
        "pytorch": ((2 * p) ** -0.5, width**-0.5),
    }[init]
    for name, std, shape in (("W_in", spread[0], (2 * p, width)), ("W_out", spread[1], (width, p))):
        wanted = torch.empty(shape)
        if init == "pytorch":
            wanted.uniform_(-std, std, generator=draw)
        else:
            wanted.normal_(0, std, generator=draw)
        assert torch.equal(getattr(shallow, name), wanted) and torch.equal(getattr(deep, name), wanted)
    std = spread[1] / 3**0.5 if init == "pytorch" else spread[1]
    for layer in deep.deeper:
        assert layer.W.std().item() == pytest.approx(std, rel=0.01)
    assert not torch.equal(deep.deeper[0].W, deep.deeper[1].W)


def test_without_regularization_the_state_is_what_it_was():
    assert set(HookedMLP(mm.MLPConfig(width=4), P).state_dict()) == {"W_in", "W_out"}
    assert "hook_post" not in dict(HookedMLP(mm.MLPConfig(width=4), P).named_modules())


def test_dropout_acts_before_the_activation_and_only_in_training():
    model = network(width=4000, activation="quadratic", dropout=0.3)
    kept = []
    model.hook_hidden.register_forward_hook(lambda _m, _i, output: kept.append(output.detach()))
    model.train()(PAIRS)
    model.eval()(PAIRS)
    trained, whole = kept
    np.testing.assert_allclose(whole.numpy(), by_formula(model, training=False)["hook_hidden"])
    dropped = trained == 0
    # Squared after the division, not before it.
    assert torch.allclose(trained[~dropped], (whole / 0.7**2)[~dropped])
    n = dropped.numel()
    assert abs(dropped.double().mean().item() - 0.3) < 4 * (0.21 / n) ** 0.5
    assert dropped.double().mean(0).std() < 0.15, "each neuron and example has a draw of its own"


def test_masks_derive_from_seed_layer_and_step_and_go_on_within_a_step():
    x = torch.ones(60, 8)

    def draws(layer=0, seed=0, step=0, blocks=(60,)):
        module = torch.nn.Sequential(StepDropout(0.5, layer))
        begin_step(dropout_layers(module), seed, step)
        return torch.cat([module(part) for part in x.split(list(blocks))])

    assert torch.equal(draws(), draws()) and torch.equal(draws(), draws(blocks=(7, 40, 13)))
    assert all(not torch.equal(draws(), draws(**other)) for other in ({"layer": 1}, {"seed": 1}, {"step": 1}))
    free = StepDropout(0.5)
    assert torch.equal(free(x), draws()) and not torch.equal(free(x), draws()), "it goes on from step 0's"
    assert torch.equal(copy.deepcopy(free)(x), free(x))
    state = torch.random.get_rng_state()
    draws()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_copies_and_files_hold_the_running_statistics(tmp_path):
    model = HookedMLP(mm.MLPConfig(width=6, layers=2, batch_norm=True, dropout=0.2), P)
    for step in range(3):
        begin_step(dropout_layers(model), 0, step)
        model.train()(PAIRS)
    write_tensors(tmp_path / "state.safetensors", model.state_dict())
    other = HookedMLP(mm.MLPConfig(width=6, layers=2, batch_norm=True, dropout=0.2), P, seed=9)
    other.load_state_dict(read_tensors(tmp_path / "state.safetensors"))
    wanted = model.eval()(PAIRS)
    assert torch.equal(other.eval()(PAIRS), wanted) and torch.equal(copy.deepcopy(model)(PAIRS), wanted)
    assert int(other.norm.num_batches_tracked) == 3 and (other.deeper[0].norm.running_mean != 0).any()
    assert other.last_norm is other.deeper[0].norm
    assert network(batch_norm=True).last_norm is not None and network(layers=2).last_norm is None


def test_muon_leaves_gamma_beta_and_the_bias_to_adamw():
    model = HookedMLP(mm.MLPConfig(width=6, layers=2, batch_norm=True, bias=True), P)
    parts = Optimizers(mm.TrainConfig(optimizer="muon"), model, model.roles).parts
    matrices, rest = ([p for group in part.param_groups for p in group["params"]] for part in parts)
    assert all(parameter.ndim == 2 for parameter in matrices)
    vectors = [p for name, p in model.named_parameters() if "norm" in name or name == "b_out"]
    assert len(vectors) == 5 and {id(p) for p in vectors} <= {id(p) for p in rest}


def test_a_built_network_is_in_evaluation_mode():
    grid = mm.ModularTask(mm.ModularConfig(p=P))
    model = build_model(mm.MLPConfig(width=4, layers=2, dropout=0.5), grid, 0)
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"layers": 0}, "layers must be a whole number of at least 1, got 0"),
        ({"layers": 9}, "layers must be at most 8, got 9"),
        ({"layers": 1.5}, "layers must be a whole number"),
        ({"dropout": 1}, "dropout must be below 1, got 1"),
        ({"dropout": -0.1}, "dropout must be finite and at least 0, got -0.1"),
        ({"dropout": float("nan")}, "dropout must be finite"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        mm.MLPConfig(**settings)
