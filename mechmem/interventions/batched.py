"""Batched evaluation of a function of masks, by `vmap` in batches that fit in memory or one mask at a time."""

from __future__ import annotations

import dataclasses
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mechmem.core.in_words import reason
from mechmem.errors import MechmemError
from mechmem.math.blocks import blocks
from mechmem.math.logits import refuse_probabilities
from mechmem.models.hooks.running import full_precision

Method = Literal["vmap", "loop"]
Masks = tuple[Bool[Tensor, "..."], ...]
Forward = Callable[[Masks], Tensor]
"""Logits of a block of examples with the masked elements replaced. Shape (example, class)."""
Edited = tuple[slice, slice, Float[Tensor, "edit example class"]]
"""Slice of the edits, slice of the examples, and the logits of the edited passes."""

CPU_MB, DEVICE_MB = 16.0, 512.0
"""Default limit on the activations of a batch of edited passes in megabytes; on the CPU, what stays in cache."""

AT_ONCE = 32
"""Target number of edits per pass: with so many, the network before the edit is a small part of the work."""

FEWEST_ROWS = 64
"""Smallest block of examples to which a block is cut to fit more edits at once."""

ROUNDINGS = 1000
"""Largest difference between a batched pass and a single one, as a share of the largest logit, in machine epsilons."""


@dataclasses.dataclass
class Batched:
    """Batching of edited passes: settings, and a note on what happened.

    Attributes:
        method: "vmap", or "loop" for one pass after the other.
        limit_mb: memory for the activations after the edit, in megabytes; None for the device's default.
        note: why edits ran one by one although "vmap" was asked for, or "". Once set, all later edits do.
    """

    method: Method = "vmap"
    limit_mb: float | None = None
    note: str = ""
    _row_bytes: float | None = dataclasses.field(default=None, init=False)

    def over(self, forward_on: Callable[[slice], Forward], n: int, rows: int, masks: Masks) -> Iterator[Edited]:
        """Yield the logits of every edit on every example, blocks of examples outermost.

        The part of a forward pass before the first mask is computed once per batch: tensors get an axis of edits only
        there. The first edit is run alone, to measure how large a batch may be and to check the batch against it. A
        network for which `vmap` fails or gives other logits is run edit by edit, and `note` says so.

        Args:
            forward_on: returns the function of masks for a block of examples.
            n: number of examples.
            rows: most examples in a block.
            masks: one tensor per point, one row per edit.
        """
        edits, rows, at_once, reference = len(masks[0]), min(n, rows), 1, None
        if self.method == "vmap" and edits > 1 and not self.note:
            if self._row_bytes is None:
                reference = self._measure(forward_on(slice(0, rows)), rows, tuple(mask[0] for mask in masks))
            rows, at_once = self._sizes(rows, edits, masks[0].device)
        for block in blocks(n, rows):
            forward = forward_on(block)
            for chosen in blocks(edits, at_once):
                part = tuple(mask[chosen] for mask in masks)
                logits = None
                if at_once > 1:
                    logits = self._together(forward, part, reference)
                    at_once, reference = (at_once, None) if logits is not None else (1, None)
                if logits is None:
                    logits = torch.stack([forward(tuple(m[i] for m in part)) for i in range(len(part[0]))])
                found = full_precision(logits).cpu()
                refuse_probabilities(found[0])
                yield chosen, block, found

    def _measure(self, forward: Forward, rows: int, first: Masks) -> Tensor:
        """Run one edit alone, measure its memory, and return its logits."""
        with _Meter(first) as meter:
            reference = forward(first)
        self._row_bytes = max(1.0, meter.peak / rows)
        return reference

    def _sizes(self, rows: int, edits: int, device: torch.device) -> tuple[int, int]:
        """Return how many examples and edits fit into a pass."""
        assert self._row_bytes is not None
        limit = self.limit_mb or (CPU_MB if device.type == "cpu" else DEVICE_MB)
        room = limit * 2**20 / self._row_bytes
        fewer = max(min(rows, FEWEST_ROWS), min(rows, int(room / min(edits, AT_ONCE))))
        at_once = min(edits, int(room / fewer))
        if at_once >= 2:
            return fewer, at_once
        size = self._row_bytes * fewer / 2**20
        self.note = f"edits were run one by one: two would take {2 * size:.3g} MB, and the limit is {limit:g} MB"
        return rows, 1

    def _together(self, forward: Forward, masks: Masks, reference: Tensor | None) -> Tensor | None:
        """Return the logits of a batch, or None if `vmap` fails or gives other logits."""
        try:
            with warnings.catch_warnings():
                # Operations without a batching rule are looped over inside: correct, but slower.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                found = torch.func.vmap(forward)(masks)
        except MechmemError:
            raise
        except Exception as error:
            # Whatever the error, a single pass either works or raises the network's own.
            self.note = f"edits were run one by one: {reason(error)}"
            return None
        if reference is not None:
            wanted = reference[: found.shape[1]]
            gap, scale = float((found[0] - wanted).abs().max()), float(wanted.abs().max())
            if not gap <= min(ROUNDINGS * torch.finfo(wanted.dtype).eps, 0.05) * scale:
                self.note = f"edits were run one by one: in a batch, logits of up to {scale:.3g} differ by {gap:.3g}"
                return None
        return found


class _Meter(TorchDispatchMode):
    """Peak memory in bytes of the tensors that depend on the given ones, which are those that `vmap` batches."""

    def __init__(self, roots: Masks):
        super().__init__()
        self.peak, self._held = 0, 0
        self._batched = {_key(root) for root in roots}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch would spend seconds importing its compiler, which never sees this method.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; its results from batched tensors are batched."""
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if any(_key(leaf) in self._batched for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
            for leaf in tree_leaves(found):
                if isinstance(leaf, Tensor) and _key(leaf) not in self._batched:
                    self._take(leaf)
        return found

    def _take(self, made: Tensor) -> None:
        storage = made.untyped_storage()
        self._batched.add(_key(made))
        self._held += storage.nbytes()
        self.peak = max(self.peak, self._held)
        weakref.finalize(storage, self._free, _key(made), storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._batched.discard(key)
        self._held -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
