"""What a recorded network answered at a saved step, against the answers of one that is given for it.

Weights do not tell what is computed with them: which activation function, in which order, at what scale.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.roles import Output
from mechmem.core.task import Task
from mechmem.errors import MechmemError
from mechmem.models.reading.forward import logits_of

EXAMPLES, CLASSES = 8, 16
"""Number of examples and of classes whose logits are kept with a saved state."""
ALLOWED = 0.05
"""Difference from them that rounding can make, on another device or in another precision; of the largest logit."""


def answers_of(model: nn.Module, task: Task, output: Output) -> list[list[float]] | None:
    """Return logits of a few examples, to be kept with the network's state; None where there are none to compare."""
    try:
        found = _logits(model, task, output)
    except Exception:  # saving does not fail where measuring would, which says why
        return None
    return found.tolist() if found.isfinite().all() else None


def other_answers(model: nn.Module, task: Task, output: Output, kept: Any) -> str:
    """Return how the answers of a network differ from those that were kept, or "" if they do not."""
    wanted = torch.tensor(kept, dtype=torch.float32)
    try:
        found = _logits(model, task, output)
    except MechmemError:
        return ""
    if found.shape != wanted.shape:
        return f"{len(found.T)} logits, not {len(wanted.T)}"
    gap, scale = float((found - wanted).abs().max()), float(wanted.abs().max())
    return "" if gap <= ALLOWED * scale else f"logits that differ by up to {gap:.2g}, the largest being {scale:.2g}"


def _logits(model: nn.Module, task: Task, output: Output) -> Float[Tensor, "example class"]:
    logits = logits_of(model, task, task.ids[_spread(len(task.ids), EXAMPLES)], output)
    return logits[:, _spread(logits.shape[1], CLASSES)].float()


def _spread(n: int, most: int) -> Int[Tensor, " one"]:
    return torch.linspace(0, n - 1, min(n, most)).long()
