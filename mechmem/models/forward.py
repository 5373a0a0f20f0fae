"""Running a network over many examples in row blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.contracts import Subject, Task
from mechmem.errors import ConfigError
from mechmem.math.blocks import blocks
from mechmem.models.hooking import warn_of_leftovers
from mechmem.models.masking import mask_layers, of_examples
from mechmem.roles import Output

BLOCK_ELEMENTS = 2**20
"""Activation elements per row block: 4 MB in float32, so that a block stays in cache."""
FEWEST_ROWS = 256
"""Fewer examples at once would be slower, whatever the width."""


def block_rows(model: nn.Module) -> int:
    """Choose how many examples go through the network at once, from its widest matrix.

    Fewest where it convolves: each channel then holds as many numbers as the image has places.
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
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from error
    return device


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the first parameter or buffer (the CPU for a model without any)."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode; afterwards every module has its own mode back (some may have been frozen)."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def full_precision(values: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Widen half precision to float32; leave float32 and float64 as they are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def logits_of(
    model: nn.Module,
    task: Task,
    ids: Int[Tensor, " example"],
    output: Output = Output(),
) -> Float[Tensor, "example class"]:
    """Return the model's logits on these ids, on the CPU, computed in row blocks in the model's evaluation mode.

    Raises:
        ConfigError: the logits are not one row per example, one column per class.
        RoleError: there are no logits where `output` says.

    Warns:
        LeftoverHooksWarning: hooks that somebody left on the model take part in the run.
    """
    warn_of_leftovers(model)
    device, layers = device_of(model), mask_layers(model)
    logits = torch.empty(0, task.n_classes)
    with torch.no_grad(), evaluating(model):
        for block in blocks(len(ids), block_rows(model)):
            with of_examples(layers, task.source(ids[block])):
                returned = model(task.batch(ids[block])[0].to(device))
            found = full_precision(_checked(output.read(returned), block, task))
            if not block.start:
                # Filled block by block: at large p a list of blocks beside their concatenation is a second table.
                logits = torch.empty(len(ids), task.n_classes, dtype=found.dtype)
            logits[block] = found
    return logits


def _checked(logits: Tensor, block: slice, task: Task) -> Tensor:
    expected, found = (block.stop - block.start, task.n_classes), tuple(logits.shape)
    if found != expected:
        raise ConfigError(f"the model must return logits of shape (example, class) = {expected}, and returned {found}")
    return logits


def all_logits(subject: Subject) -> Float[Tensor, "example class"]:
    """Return logits on every id of the task, in the order of `task.ids`; the network runs once per subject and state.

    Warns:
        LeftoverHooksWarning: hooks that somebody left on the model take part in the run.
    """
    warn_of_leftovers(subject.model)
    return subject.memo(
        "logits", lambda: logits_of(subject.model, subject.task, subject.task.ids, subject.roles.output)
    )
