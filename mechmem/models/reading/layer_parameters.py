"""The layers of any network, as far as they hold parameters: by name, and set to the values of another state."""

from __future__ import annotations

import dataclasses
import fnmatch

import torch
from torch import Tensor, nn

from mechmem.core.roles import Roles
from mechmem.errors import ConfigError, unknown_name

READOUT = "readout"
"""The layer that the role readout names, whatever it is called in the network."""


@dataclasses.dataclass(frozen=True)
class LayerParameters:
    """What a layer of a network holds.

    Attributes:
        name: the module's name; of what the network itself holds, the parameter's.
        parameters: names of its parameters in the network. One that is used twice belongs to the layer that is listed
            first.
        buffers: names of the buffers that are saved with it (BatchNorm's running statistics).
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of parameters and buffers."""
        return (*self.parameters, *self.buffers)


def parameter_layers(model: nn.Module, roles: Roles = Roles(), pattern: str = "") -> tuple[LayerParameters, ...]:
    """Return a network's layers, in the order in which it lists them; the one that the role readout names is the last.

    Without a pattern every module that holds parameters of its own is a layer (a convolution and the BatchNorm behind
    it are two); what the network itself holds is a layer by parameter, the readout's bias joined with its weights.

    Args:
        model: any network.
        roles: which parameter is the readout.
        pattern: name of a module, or a pattern such as "layers.*", in which `*` stands for dots too: of the modules
            that match, the outermost are the layers, each with everything in it. "readout" is the layer of that role
            where no module has the name.

    Raises:
        UnknownNameError: nothing that holds parameters matches.
    """
    names = [name for name, _ in model.named_parameters()]
    buffers = [name for name, _ in model.named_buffers() if _is_saved(model, name)]
    homes = {name: _home(name, roles) for name in (*names, *buffers)}
    last = "" if roles.readout is None else homes.get(roles.readout.names[0], "")
    found = list(dict.fromkeys(homes.values()))
    if pattern == READOUT and last and not any(_inside(home, READOUT) for home in found):
        pattern = last
    if pattern:
        outer = _outermost(found, pattern)
        homes = {name: next((top for top in outer if _inside(home, top)), "") for name, home in homes.items()}
        found, last = outer, next((top for top in outer if last and _inside(last, top)), "")
    return tuple(
        LayerParameters(
            layer,
            tuple(name for name in names if homes[name] == layer),
            tuple(name for name in buffers if homes[name] == layer),
        )
        for layer in sorted(found, key=lambda name: name == last)
    )


def _is_saved(model: nn.Module, name: str) -> bool:
    owner, _, own = name.rpartition(".")
    return own not in model.get_submodule(owner)._non_persistent_buffers_set


def _home(name: str, roles: Roles) -> str:
    owner = name.rpartition(".")[0]
    if not owner and roles.bias is not None and roles.readout is not None and name in roles.bias.names:
        return _home(roles.readout.names[0], Roles())
    return owner or name


def _inside(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


def _outermost(homes: list[str], pattern: str) -> list[str]:
    """Return the outermost modules that a pattern matches, among the layers and all that they are in."""
    parts = [home.split(".") for home in homes]
    known = dict.fromkeys(".".join(each[:depth]) for each in parts for depth in range(1, len(each) + 1))
    matched = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not matched:
        raise unknown_name("layer with parameters", pattern, known)
    return [name for name in matched if not any(name != top and _inside(name, top) for top in matched)]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by every name that they have."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


@torch.no_grad()
def copy_layer(layer: LayerParameters, source: nn.Module, target: nn.Module) -> None:
    """Set a layer's parameters and buffers in one network to the values that they have in another, in place.

    Raises:
        ConfigError: the other network has no such tensor, or one of another shape.
    """
    theirs, own = named_tensors(source), named_tensors(target)
    for name in layer.tensors:
        shape = tuple(own[name].shape)
        if name not in theirs or tuple(theirs[name].shape) != shape:
            seen = f"one of shape {tuple(theirs[name].shape)}" if name in theirs else "none"
            raise ConfigError(f"the earlier state must hold {name!r} of shape {shape}, and holds {seen}")
        own[name].copy_(theirs[name])
