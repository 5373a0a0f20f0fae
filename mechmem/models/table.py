"""A "network" that is nothing but a table of logits: how logits from elsewhere, and controls, enter an audit."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mechmem.contracts import Task
from mechmem.errors import ConfigError, UnknownNameError


class LogitTable(nn.Module):
    """Looks its logits up by input.

    Args:
        logits: one row per id of the task, in the order of `task.ids`.
        task: the task whose inputs the table answers.

    Raises:
        ConfigError: the table's shape does not fit the task, a value is not finite, or two ids share an input.
    """

    def __init__(self, logits: Float[Tensor, "example class"], task: Task):
        super().__init__()
        expected = (len(task.ids), task.n_classes)
        if tuple(logits.shape) != expected:
            raise ConfigError(
                f"logits must have one row per id and one column per class, {expected}, got {tuple(logits.shape)}"
            )
        # The extremes take one pass; a mask of p³ entries would be another table.
        if logits.numel() and not all(bool(torch.isfinite(extreme)) for extreme in logits.aminmax()):
            raise ConfigError("logits contain NaN or infinity")
        self.logits: Tensor
        self.register_buffer("logits", logits.detach().clone())
        inputs = task.batch(task.ids)[0]
        self._row = {key: row for row, key in enumerate(_keys(inputs))}
        if len(self._row) != len(inputs):
            raise ConfigError("two ids of the task have the same input, so a table cannot tell them apart")

    def forward(self, inputs: Shaped[Tensor, "example ..."]) -> Float[Tensor, "example class"]:
        """Return the stored rows of these inputs.

        Raises:
            UnknownNameError: an input is not one of the task's.
        """
        try:
            rows = [self._row[key] for key in _keys(inputs)]
        except KeyError as error:
            raise UnknownNameError("the table holds no logits for one of these inputs") from error
        return self.logits[torch.tensor(rows, dtype=torch.long)]


def _keys(inputs: Tensor) -> list[bytes]:
    # As bytes, because numpy has no bfloat16.
    flat = inputs.detach().cpu().reshape(len(inputs), -1).contiguous().view(torch.uint8)
    return [row.tobytes() for row in flat.numpy()]
