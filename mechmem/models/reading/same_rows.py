"""Comparison of two passes over blocks that share examples, and the coarsest numbers that a pass computes with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Block = tuple[int, ...]
"""One pass: positions in a sample of the examples that go through a network together."""

ROUNDINGS = 100
"""Largest difference between passes over blocks of one size, as a share of the largest value, in machine epsilons."""


def shared(one: Block, other: Block) -> tuple[list[int], list[int]]:
    """Return rows of two blocks that hold the same examples: at the same places if the blocks have one size."""
    if len(one) == len(other):
        rows = [row for row, (a, b) in enumerate(zip(one, other, strict=True)) if a == b]
        return rows, rows
    return [one.index(example) for example in other], list(range(len(other)))


def gap_of(a: Tensor, block: Block, b: Tensor, other_block: Block) -> tuple[float, float]:
    """Return the largest difference between rows of the same examples, and the largest value."""
    rows, other_rows = shared(block, other_block)
    exact = torch.complex128 if a.is_complex() else torch.float64
    x, y = a[rows].to(exact), b[other_rows].to(exact)
    gap = torch.where((x == y) | (x.isnan() & y.isnan()), 0, (x - y).abs()).nan_to_num(nan=torch.inf)
    scale = x.abs().nan_to_num(nan=0, posinf=0)
    return (float(gap.max()), float(scale.max())) if x.numel() else (0.0, 0.0)


class CoarsestType(TorchDispatchMode):
    """Machine epsilon of the coarsest floating-point type among the results of all operations in a pass."""

    def __init__(self):
        super().__init__()
        self.eps = torch.finfo(torch.float64).eps

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch would spend seconds importing its compiler, which never sees this method.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and look at its results."""
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.is_floating_point():
                self.eps = max(self.eps, torch.finfo(leaf.dtype).eps)
        return found
