"""Networks in trials: which of them need one, the state in which they had it, and copies that leave no trace."""

from __future__ import annotations

import contextlib
import copy
import pickle
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

from mechmem.models.hooks.lens import HookPoint
from mechmem.models.hooks.running import device_of

_KNOWN = ("mechmem", "torch.nn.modules", "transformer_lens.hook_points")
"""Packages whose modules treat examples separately in evaluation mode, but for those that `_may_couple` names."""
_RANDOM = (nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def known_to_be_separate(model: nn.Module) -> bool:
    """Return whether a network is one of mechmem's own, with nobody else's modules or hooks in it.

    Besides those of `mechmem.models.networks` these are classes that say so by their attribute `separate`.
    """
    if not (type(model).__module__.startswith("mechmem.models.networks.") or getattr(type(model), "separate", False)):
        return False
    return not any(_may_couple(module) for module in model.modules())


def _may_couple(module: nn.Module) -> bool:
    if not _within(type(module).__module__, _KNOWN) or isinstance(module, _RANDOM) or "forward" in vars(module):
        return True
    if isinstance(module, _NormBase) and not isinstance(module, _InstanceNorm) and module.running_mean is None:
        return True
    return bool(_hooks(module))


def copy_for_trial(model: nn.Module) -> nn.Module:
    """Return a copy of a network that shares its weights, without the hooks at its hook points.

    So nothing that the network counts or keeps of its passes changes, and no hook that somebody has put on it is
    called.
    A network that cannot be copied is returned itself.
    """
    shared = [each for module in model.modules() for each in vars(module).values() if isinstance(each, Tensor)]
    try:
        copied = copy.deepcopy(model, {id(each): each for each in (*model.parameters(), *shared)})
    except (TypeError, ValueError, AttributeError, RuntimeError, copy.Error, pickle.PickleError):
        return model
    for module in copied.modules():
        if isinstance(module, HookPoint):
            module.fwd_hooks, module.bwd_hooks = [], []
            for kind in (*_HOOKS, "_backward_pre_hooks", "_backward_hooks"):
                getattr(module, kind).clear()
    return copied


def known_state(model: nn.Module) -> tuple[Any, ...]:
    """Return a value that changes with a network's modules, their settings and hooks, and when its weights are written.

    Hooks at hook points are not part of it. It is quicker to compute than the fingerprint: weights that somebody writes
    past torch's counters make no network random and couple no examples.
    """
    modules = tuple(
        (name, id(module), type(module), *(_settings(module)), *_hooks(module))
        for name, module in model.named_modules()
    )
    return modules, tuple((id(each), _version(each)) for each in (*model.parameters(), *model.buffers()))


def _settings(module: nn.Module) -> tuple[Any, ...]:
    """Return a module's plain attributes."""
    kept = (bool, int, float, str, type(None))
    return tuple((name, value) for name, value in vars(module).items() if name[:1] != "_" and isinstance(value, kept))


def _hooks(module: nn.Module) -> list[int]:
    """Return the numbers of the hooks on a module that are not mechmem's; torch gives no number twice."""
    if isinstance(module, HookPoint):
        return []
    hooks = (item for kind in _HOOKS for item in getattr(module, kind).items())
    return [number for number, hook in hooks if not _within(str(getattr(hook, "__module__", "")), ("mechmem",))]


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def random_state(model: nn.Module) -> tuple[Any, ...]:
    """Return the states of the generators that a network may draw from."""
    device = device_of(model)
    states = [torch.get_rng_state()]
    states += [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    name, keys, *rest = np.random.get_state(legacy=True)  # type: ignore[misc]
    return (*(state.numpy().tobytes() for state in states), name, np.asarray(keys).tobytes(), *rest, random.getstate())


@contextlib.contextmanager
def random_state_kept(model: nn.Module) -> Iterator[None]:
    """Restore the generators that a network may draw from, so that nobody's later draws change."""
    device = device_of(model)
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
