"""Parameters and buffers of any network by layer, and copying a layer from another state."""

from __future__ import annotations

import dataclasses
import fnmatch

import torch
from torch import Tensor, nn

from mechmem.core.roles import Roles
from mechmem.errors import ConfigError, unknown_name

READOUT = "readout"
"""Name for the layer of the role readout, whatever its name in the network."""


@dataclasses.dataclass(frozen=True)
class LayerParameters:
    """Parameters and buffers of one layer.

    Attributes:
        name: the module's name; for a parameter of the root module, the parameter's name.
        parameters: names of its parameters in the network. A shared parameter belongs to the layer listed first.
        buffers: names of its saved buffers (BatchNorm's running statistics).
    """

    name: str
    parameters: tuple[str, ...]
    buffers: tuple[str, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of parameters and buffers."""
        return (*self.parameters, *self.buffers)


def parameter_layers(model: nn.Module, roles: Roles = Roles(), pattern: str = "") -> tuple[LayerParameters, ...]:
    """Return a network's layers in the order of its modules; the layer of the role readout comes last.

    Without a pattern every module with parameters of its own is a layer (a convolution and the BatchNorm after it are
    two); each parameter of the root module is a layer, with the readout's bias joined to its weights.

    Args:
        model: any network.
        roles: the role readout names the last layer.
        pattern: name of a module, or a pattern such as "layers.*", in which `*` matches dots too: the outermost
            matching modules are the layers, each with everything in it. "readout" is the layer of that role if no
            module has the name.

    Raises:
        UnknownNameError: no module with parameters matches.
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
    """Return the outermost modules that a pattern matches, among the layers and their parent modules."""
    parts = [home.split(".") for home in homes]
    known = dict.fromkeys(".".join(each[:depth]) for each in parts for depth in range(1, len(each) + 1))
    matched = [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not matched:
        raise unknown_name("layer with parameters", pattern, known)
    return [name for name in matched if not any(name != top and _inside(name, top) for top in matched)]


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by each of their names."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


@torch.no_grad()
def copy_layer(layer: LayerParameters, source: nn.Module, target: nn.Module) -> None:
    """Copy a layer's parameters and buffers from `source` into `target`, in place.

    Raises:
        ConfigError: the source has no such tensor, or one of another shape.
    """
    theirs, own = named_tensors(source), named_tensors(target)
    for name in layer.tensors:
        shape = tuple(own[name].shape)
        if name not in theirs or tuple(theirs[name].shape) != shape:
            seen = f"one of shape {tuple(theirs[name].shape)}" if name in theirs else "none"
            raise ConfigError(f"the earlier state must hold {name!r} of shape {shape}, but holds {seen}")
        own[name].copy_(theirs[name])
