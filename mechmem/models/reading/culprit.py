"""The first module whose result differs between two passes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mechmem.core.elements import tensors
from mechmem.models.hooks.lens import HookPoint
from mechmem.models.reading.same_rows import ROUNDINGS, Block, gap_of


@dataclasses.dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module: its name, and copies of the tensors it took and returned."""

    name: str
    taken: list[Tensor]
    returned: list[Tensor]


def first_to_differ(
    model: nn.Module,
    run: Callable[[Block], Any],
    blocks: tuple[Block, Block],
) -> str | None:
    """Return the name of the innermost module that takes the same in two passes and returns something else.

    Args:
        model: the network.
        run: runs it on a block.
        blocks: the blocks of the two passes.

    Returns:
        the module's name, "" for the network itself; None if no module stands out.
    """
    one, other = (_calls(model, lambda block=block: run(block)) for block in blocks)

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return len(a) == len(b) and all(_same(x, y, blocks) for x, y in zip(a, b, strict=True))

    # Calls are listed as they end, so that a module comes before the one around it.
    for first, second in zip(one, other, strict=False):
        if first.name != second.name:
            break
        if same(first.taken, second.taken) and not same(first.returned, second.returned):
            return first.name
    return None


def _calls(model: nn.Module, run: Callable[[], Any]) -> list[_Call]:
    found: list[_Call] = []
    taken: list[list[Tensor]] = []

    def before(args: Any, kwargs: Any) -> None:
        taken.append([each.detach().clone() for each in tensors([*args, kwargs]).values()])

    def after(name: str, returned: Any) -> None:
        found.append(_Call(name, taken.pop(), [each.detach().clone() for each in tensors(returned).values()]))

    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():
            if not isinstance(module, HookPoint):
                stack.enter_context(_watched(module, name, before, after))
        run()
    return found


@contextlib.contextmanager
def _watched(
    module: nn.Module, name: str, before: Callable[[Any, Any], None], after: Callable[[str, Any], None]
) -> Iterator[None]:
    handles = [
        module.register_forward_pre_hook(lambda _, args, kwargs: before(args, kwargs), with_kwargs=True),
        module.register_forward_hook(lambda _, args, returned: after(name, returned)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _same(a: Tensor, b: Tensor, blocks: tuple[Block, Block]) -> bool:
    if not (a.ndim and b.ndim) or (len(a), len(b)) != (len(blocks[0]), len(blocks[1])):
        # Not one row per example: only whole passes over the same examples can be compared.
        if a.shape != b.shape or blocks[0] != blocks[1] or not a.ndim:
            return True
        blocks = (tuple(range(len(a))), tuple(range(len(a))))
    if a.shape[1:] != b.shape[1:]:
        return False
    gap, scale = gap_of(a, blocks[0], b, blocks[1])
    return gap <= ROUNDINGS * (torch.finfo(a.dtype).eps if a.is_floating_point() else 0) * scale
