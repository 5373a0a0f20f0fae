"""What scores answer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

NOT_FINITE = -1
"""In the place of an answer where a score is NaN or infinite."""


def answers_of(scores: Float[Tensor, "example class"]) -> Int[Tensor, " example"]:
    """Return the class with the highest score, the lowest of equals; `NOT_FINITE` where a score is not finite."""
    if not len(scores):
        return torch.zeros(0, dtype=torch.long)
    # A row whose least and greatest scores are finite is finite; NaN is both. A mask of all scores would be as large.
    finite = torch.isfinite(scores.amin(1)) & torch.isfinite(scores.amax(1))
    return torch.where(finite, scores.argmax(1), NOT_FINITE)
