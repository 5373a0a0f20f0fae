"""Modular addition, subtraction and multiplication, with the grid of all inputs and stable ids a·p + b."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from mechmem.tasks.config import ModularConfig, is_prime
from mechmem.tasks.grid_task import GridTask
from mechmem.tasks.groups import CyclicGroup


def answers(op: str, p: int) -> Int[Tensor, "p p"]:
    """Return the true answer of every pair."""
    b = torch.arange(p)
    a = rearrange(b, "a -> a 1")
    return {"add": a + b, "subtract": a - b, "multiply": a * b}[op] % p


class ModularTask(GridTask):
    """c = a ∘ b (mod p). An id is a·p + b; inputs are the pairs themselves, as integers."""

    def __init__(self, config: ModularConfig):
        """Build the grid, the split and the given labels; the same config always gives the same task."""
        super().__init__(config, answers(config.op, config.p))
        self.operation = config.op
        if config.op != "multiply" or is_prime(config.p):
            self.group = CyclicGroup(config.p, multiplicative=config.op == "multiply")
