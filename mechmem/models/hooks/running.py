"""Settings of a forward pass: device, evaluation mode, rows per block, precision."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechmem.core.in_words import reason
from mechmem.errors import ConfigError

BLOCK_ELEMENTS = 2**20
"""Activation elements per row block: 4 MB in float32, so that a block stays in cache."""
AUTOCAST = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices on which torch may lower the precision of products."""
FEWEST_ROWS = 256
"""Fewest examples per block: fewer are slower at any width."""


def block_rows(model: nn.Module) -> int:
    """Choose how many examples go through the network at once, from its widest matrix.

    A convolutional network gets the fewest: each of its channels holds one number per pixel.
    """
    if any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules()):
        return FEWEST_ROWS
    width = max((max(p.shape[-2:]) for p in model.parameters() if p.ndim > 1), default=1)
    return max(FEWEST_ROWS, min(4096, BLOCK_ELEMENTS // width))


def resolve_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ConfigError: there is no such device, or it is not available here.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        if device.type == "cpu" and device.index:
            raise RuntimeError("there is one CPU device, cpu")
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {reason(error)}") from error
    return device


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer (the CPU for a model without any)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards restore each module's own mode (some may have been frozen)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def differentiating() -> Iterator[None]:
    """Record gradients, even if the caller has disabled them or is in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextlib.contextmanager
def as_configured() -> Iterator[None]:
    """Build and train networks as their configs say, whatever the caller has set in torch.

    That is with gradients, in float32 and without autocast. Afterwards the caller's settings are restored.
    """
    dtype = torch.get_default_dtype()
    with contextlib.ExitStack() as stack:
        stack.enter_context(differentiating())
        for device in AUTOCAST:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.callback(torch.set_default_dtype, dtype)
        torch.set_default_dtype(torch.float32)
        yield


def recomputing() -> bool:
    """Return whether a backward pass is under way.

    A module that is called then recomputes activations that checkpointing discarded: it is no second call of it.
    """
    return torch._C._current_graph_task_id() != -1


def products_in(values: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Return the values in the precision in which autocast, if enabled, has matrices multiplied."""
    device = values.device.type
    return values.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else values


def full_precision(values: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Widen half precision to float32; leave float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
