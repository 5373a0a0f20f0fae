"""How a rule's logits depend on the distance between the operands, and how alike the operands' gradients are.

Source of both figures: Zhong, Liu, Tegmark & Andreas 2023, "The Clock and the Pizza", arXiv 2306.17844, definitions
4.1 and 4.2, and the code published with it.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def correct_logits(
    values: Float[Tensor, "example class"], rows: Int[Tensor, "n n"], sign: int, classes: Int[Tensor, " n"]
) -> Float[Tensor, "distance n"]:
    """Sort the logits of the right answers by the distance between the operands.

    Args:
        values: logits that hold the grid's cells among their rows.
        rows: the row of `values` of each pair of positions in the group.
        sign: the answer of positions (a, b) stands at position a + sign·b.
        classes: the class at each position of the group.

    Returns:
        float64 logits; row d holds those of the n pairs with a − sign·b = d, in the order of a. (Subtraction is the
        addition of −b, and d is then a + b.)
    """
    n = len(rows)
    a = torch.arange(n)
    distance = a[:, None]
    b = (sign * (a - distance)) % n
    return values[rows[a, b], classes[(a + sign * b) % n]].double()


def irrelevance(
    deviation: Float[np.ndarray, "*resample distance"], mean: Float[np.ndarray, "*resample distance"], axis: int = -1
) -> Float[np.ndarray, "*resample"]:
    """Distance irrelevance: mean over distances of the standard deviation at that distance, over that of all logits.

    A function of the distance alone has 0, one that does not depend on it has 1; 0 where all logits are equal. A
    statistic for `bootstrap`.

    Args:
        deviation: standard deviation of the right answers' logits at each distance.
        mean: their mean at each distance.
        axis: the axis of the distances.
    """
    total = np.sqrt((deviation**2).mean(axis) + mean.var(axis))
    return np.asarray(deviation.mean(axis) / np.where(total > 0, total, np.inf))


def cosine(left: Float[Tensor, "triple dim"], right: Float[Tensor, "triple dim"]) -> Float[Tensor, " triple"]:
    """Cosine of the angle between two vectors, in float64; NaN where one of them is zero."""
    left, right = left.double(), right.double()
    # Each by its own largest entry first: squares of small gradients would vanish.
    left, right = (v / v.abs().amax(1, keepdim=True) for v in (left, right))
    return (left * right).sum(1) / (left.norm(dim=1) * right.norm(dim=1))
