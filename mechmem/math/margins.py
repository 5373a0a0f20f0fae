"""How far a label is ahead of its strongest rival."""

from __future__ import annotations

import math

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor


def at_label(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return each row's value at its label."""
    return logits.gather(1, rearrange(labels, "cell -> cell 1"))[:, 0]


def strongest_rival(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Int[Tensor, " cell"]:
    """Return each row's strongest class other than its label; of equal ones the lowest."""
    return logits.scatter(1, rearrange(labels, "cell -> cell 1"), -math.inf).argmax(1)


def margins(logits: Float[Tensor, "cell class"], labels: Int[Tensor, " cell"]) -> Float[Tensor, " cell"]:
    """Return each row's value at its label less that of its strongest rival."""
    return at_label(logits, labels) - at_label(logits, strongest_rival(logits, labels))
