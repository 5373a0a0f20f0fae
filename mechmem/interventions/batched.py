"""One function of masks for many masks: in batches by `vmap`, as large as memory allows, or one after the other."""

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

from mechmem.errors import MechmemError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import full_precision

Method = Literal["vmap", "loop"]
Masks = tuple[Bool[Tensor, "..."], ...]
Forward = Callable[[Masks], Tensor]
"""The logits of a block of examples, with the values that the masks choose replaced. Shape (example, class)."""
Edited = tuple[slice, slice, Float[Tensor, "edit example class"]]
"""Which edits, which examples, and the logits of the edited runs."""

CPU_MB, DEVICE_MB = 16.0, 512.0
"""Megabytes that the activations of a batch of edited runs may take by default: on the CPU what stays in cache."""

AT_ONCE = 32
"""Edits that share a pass, where there are as many: what lies before the edit is then a small part of the work."""

FEWEST_ROWS = 64
"""Examples below which a block is not cut for the sake of more edits at once."""

ROUNDINGS = 1000
"""How far the batch may differ from a run by itself, as a share of the largest logit, in units of the rounding."""


@dataclasses.dataclass
class Batched:
    """How edited runs are batched, and what was found out about it on the way.

    Attributes:
        method: "vmap", or "loop" for one run after the other.
        limit_mb: memory that the activations behind the edit may take, in megabytes; None for the device's default.
        note: why runs went one after the other although "vmap" was asked for, or "". They then go on to do so.
    """

    method: Method = "vmap"
    limit_mb: float | None = None
    note: str = ""
    _row_bytes: float | None = dataclasses.field(default=None, init=False)

    def over(self, forward_on: Callable[[slice], Forward], n: int, rows: int, masks: Masks) -> Iterator[Edited]:
        """Yield the logits of every edit on every example, blocks of examples outermost.

        What a forward pass computes before the first mask comes in is computed once for a whole batch: only there do
        its tensors get an axis of edits. How large a batch may be is measured on the first edit, run by itself; with
        this run the batch is also compared. A network for which `vmap` fails, or which it would change, is run edit by
        edit, and `note` says so.

        Args:
            forward_on: makes the function of a block of examples.
            n: number of examples.
            rows: most examples in a block.
            masks: one tensor per place, one row per edit.
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
                yield chosen, block, full_precision(logits).cpu()

    def _measure(self, forward: Forward, rows: int, first: Masks) -> Tensor:
        """Run one edit by itself, note what it takes, and return its logits."""
        with _Meter(first) as meter:
            reference = forward(first)
        self._row_bytes = max(1.0, meter.peak / rows)
        return reference

    def _sizes(self, rows: int, edits: int, device: torch.device) -> tuple[int, int]:
        """Return how many examples and how many edits fit into a pass."""
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
        """Return the logits of a batch, or None where they cannot be had or trusted."""
        try:
            with warnings.catch_warnings():
                # Operations without a batching rule are looped over inside; right, and slower.
                warnings.filterwarnings("ignore", message="There is a performance drop")
                found = torch.func.vmap(forward)(masks)
        except MechmemError:
            raise
        except Exception as error:
            # Whatever it was, a run by itself either works or raises the network's own error.
            first = (str(error).splitlines() or [type(error).__name__])[0]
            self.note = f"edits were run one by one: {first[:160]}"
            return None
        if reference is not None:
            wanted = reference[: found.shape[1]]
            gap, scale = float((found[0] - wanted).abs().max()), float(wanted.abs().max())
            if not gap <= min(ROUNDINGS * torch.finfo(wanted.dtype).eps, 0.05) * scale:
                self.note = f"edits were run one by one: in a batch, logits of up to {scale:.3g} differ by {gap:.3g}"
                return None
        return found


class _Meter(TorchDispatchMode):
    """Most bytes that are held at once by what depends on some tensors; under `vmap` these are what gets an axis."""

    def __init__(self, roots: Masks):
        super().__init__()
        self.peak, self._held = 0, 0
        self._batched = {_key(root) for root in roots}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler, seconds, to keep it away from a method that it never sees.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; what it makes of batched tensors is batched."""
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
