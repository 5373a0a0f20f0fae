"""Layers by name and pattern on every kind of network, and copies of one layer."""

import pytest
import torch
from torch import nn
from two_paths import two_paths

import mechmem as mm
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.networks.image_config import CNNConfig, ResNetConfig
from mechmem.models.networks.images import HookedImageNetwork
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.layer_parameters import copy_layer, named_tensors, parameter_layers

RESNET = HookedImageNetwork(ResNetConfig(2, (1, 1), projector=5), (1, 8, 8), 3)


def names(model, pattern="", roles=None):
    return [layer.name for layer in parameter_layers(model, roles or getattr(model, "roles", mm.Roles()), pattern)]


def test_every_tensor_belongs_to_one_layer_and_the_readout_is_the_last():
    every = [name for layer in parameter_layers(RESNET, RESNET.roles) for name in layer.tensors]
    assert sorted(every) == sorted(RESNET.state_dict())
    assert names(RESNET)[:2] == ["layers.0.conv", "layers.0.norm"] and names(RESNET)[-1] == "readout"
    norm = parameter_layers(RESNET, pattern="layers.0.norm")[0]
    assert norm.parameters == ("layers.0.norm.weight", "layers.0.norm.bias") and len(norm.buffers) == 3


def test_what_the_network_itself_holds_is_told_apart_by_role():
    model = HookedMLP(mm.MLPConfig(width=4, bias=True, layers=2, batch_norm=True), 5)
    assert names(model) == ["W_in", "norm", "deeper.0", "deeper.0.norm", "W_out"]
    last = parameter_layers(model, model.roles, "readout")
    assert [layer.parameters for layer in last] == [("W_out", "b_out")]
    assert names(model, "deeper.*") == ["deeper.0"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("layers.*", ["layers.0", "layers.1", "layers.2"]),
        ("layers.2", ["layers.2"]),
        ("layers.*.conv?", ["layers.1.conv1", "layers.1.conv2", "layers.2.conv1", "layers.2.conv2"]),
        ("*", ["layers", "projector", "readout"]),
        ("readout", ["readout"]),
    ],
)
def test_the_outermost_modules_that_match_hold_all_that_is_in_them(pattern, wanted):
    layers = parameter_layers(RESNET, RESNET.roles, pattern)
    assert [layer.name for layer in layers] == wanted
    if pattern == "*":
        assert sorted(name for layer in layers for name in layer.tensors) == sorted(RESNET.state_dict())


def test_any_network_will_do_and_a_shared_parameter_belongs_to_the_first():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    found = parameter_layers(model)
    assert [layer.parameters for layer in found] == [("0.weight", "0.bias"), ("2.bias",)]


def test_unknown_layers_are_refused():
    with pytest.raises(UnknownNameError, match="no layer with parameters 'layer.0'. Did you mean 'layers.0'"):
        parameter_layers(RESNET, pattern="layer.0")
    with pytest.raises(UnknownNameError):
        parameter_layers(nn.Linear(2, 2), pattern="readout")


def test_one_layer_is_copied_and_nothing_else():
    subject = two_paths()
    model, initial = subject.copy_model(), subject.retrainer.model
    (norm,) = parameter_layers(model, pattern="norm")
    assert norm.parameters == () and len(norm.buffers) == 3
    copy_layer(norm, initial, model)
    for name, tensor in named_tensors(model).items():
        wanted = initial if name.startswith("norm.") else subject.model
        assert torch.equal(tensor, named_tensors(wanted)[name]), name
    other = HookedImageNetwork(CNNConfig((2,)), (1, 8, 8), 3)
    with pytest.raises(ConfigError, match="must hold 'norm.running_mean' of shape .*holds none"):
        copy_layer(norm, other, model)
