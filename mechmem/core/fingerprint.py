"""Fingerprint of a network's state: its weights bit by bit, its modules and its hooks."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

SUBNETWORK = "mechmem_subnetwork"
"""Name of the property of a mask layer that returns the subnetwork it runs, as a comparable value."""

_AT_ONCE = 2**17
"""Numbers summed at once: with their weights they stay in the cache."""


def fingerprint(model: nn.Module) -> tuple[Any, ...]:
    """Return a value that changes whenever a parameter, buffer, submodule, hook or chosen subnetwork does.

    The weights are read every time: torch's version counters miss what a fused optimizer, `.data` or numpy writes.
    Plain attributes and a replaced `forward` are not part of it, except for the subnetwork that example masks run.
    """
    tensors = tuple(
        (str(tensor.dtype), tensor.device, None if is_lazy(tensor) else (tuple(tensor.shape), checksum(tensor)))
        for tensor in (*model.parameters(), *model.buffers())
    )
    modules = tuple(model.modules())
    hooks = tuple(key for module in modules for key in (*module._forward_hooks, *module._forward_pre_hooks))
    chosen = tuple(getattr(module, SUBNETWORK, None) for module in modules)
    # The modules themselves, so that none is freed and its address given to another.
    return tensors, hooks, chosen, modules


@torch.no_grad()
def checksum(tensor: Tensor) -> int:
    """Return a position-dependent sum over the bits of a tensor, computed on its device.

    Pieces of at most 32 bits are multiplied by a random 64-bit number per position. Two different tensors, even if they
    differ only in signs or in the order of two values, have the same sum with a probability below 1e-9.
    """
    flat = tensor.detach().to_dense().contiguous().flatten()
    narrow = {1: torch.uint8, 2: torch.int16}.get(flat.element_size(), torch.int32)
    weights = _weights(flat.device)
    found = 0
    for part in flat.view(narrow).split(_AT_ONCE):
        found = (found * 0x9E3779B97F4A7C15 + int((part * weights[: len(part)]).sum())) % 2**64
    return found


@functools.cache
def _weights(device: torch.device) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    # Odd, so that no piece is lost.
    return (torch.randint(-(2**62), 2**62, (_AT_ONCE,), generator=draw) * 2 + 1).to(device)
