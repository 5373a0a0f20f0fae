"""The frequencies that hold most of many vectors' energy together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.group_contract import Group


def strongest_frequencies(group: Group, vectors: Float[Tensor, "symbol neuron"], count: int) -> Int[Tensor, " freq"]:
    """Return the frequencies with the most energy per coefficient, over all vectors, in ascending order.

    Long vectors count for more than short ones, as they do in the logits. Of equals the lowest comes first. Per
    coefficient, because a large representation has the most energy in random vectors already.

    Args:
        group: the group of the symbols; those outside it do not count.
        vectors: one column per neuron.
        count: how many frequencies; all of them where there are fewer.

    Returns:
        frequencies, numbered from 1.
    """
    energy = group.power(vectors.double()).sum(1) / group.multiplicity[1:].to(vectors.device)
    return torch.argsort(energy, descending=True, stable=True)[:count].sort().values + 1
