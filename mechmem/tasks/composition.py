"""Composition in a finite group, on the grid of all pairs of its elements."""

from __future__ import annotations

from mechmem.tasks.config import GroupConfig
from mechmem.tasks.finite_groups import FiniteGroup, group_named
from mechmem.tasks.grid_task import GridTask


class GroupTask(GridTask):
    """c = a·b, or a·b⁻¹, for elements of a finite group. An id is a·n + b; inputs are the pairs, as integers.

    Symbols are the group's elements in the order of `FiniteGroup.element_names`. Over "Zn" composition is addition mod
    n, and the task calls it so: its operation is "add" or "subtract", its group the `CyclicGroup` of `ModularTask`, and
    whatever asks for phases works. Over any other group the operation is "compose" or "divide", and frequencies are
    irreducible representations.
    """

    def __init__(self, config: GroupConfig):
        """Build the grid, the split and the given labels; the same config always gives the same task."""
        elements = FiniteGroup(config.group)
        divides = config.op == "divide"
        super().__init__(config, elements.product[:, elements.inverse] if divides else elements.product)
        self.group = group_named(config.group)
        sums = not isinstance(self.group, FiniteGroup)
        self.operation = ("subtract" if divides else "add") if sums else config.op
