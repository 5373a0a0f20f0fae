"""Held-out rows that are copies of training rows: a table of the training labels would answer them."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from mechmem.core.config import check_choice
from mechmem.errors import ConfigError
from mechmem.math.blocks import blocks
from mechmem.tasks.image_config import Copies

BLOCK_BYTES = 2**26


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out examples of a task, without the copies of training examples that were left out.

    Attributes:
        ids: the test set. Shape (test).
        dropped: ids that were left out. Shape (dropped).
        kept: number of copies that stayed in the test set (of a run recorded before copies were refused).
    """

    ids: Int[Tensor, " test"]
    dropped: Int[Tensor, " dropped"]
    kept: int = 0


def without_copies(
    held_out: Int[Tensor, " held_out"],
    train: Int[Tensor, " train"],
    parts: dict[str, Shaped[Tensor, "example ..."]],
    rule: str,
    *,
    keep: bool = False,
) -> HeldOut:
    """Return the held-out examples of which no part is that of a training example.

    Args:
        held_out: ids of the held-out examples, as rows of every part.
        train: ids of the training examples.
        parts: what is compared, by a word for a row of it in errors ("input row", "pair").
        rule: "refuse" copies, or "drop" them from the test set.
        keep: whether to count copies instead of refusing them.

    Raises:
        ConfigError: there are copies and the rule is "refuse", or nothing is held out besides copies.
        UnknownNameError: there is no such rule.
    """
    check_choice("rule for copies", rule, get_args(Copies))
    copied = torch.zeros(len(held_out), dtype=torch.bool)
    for what, rows in parts.items():
        found, of = copies(rows, held_out, train)
        if found.any() and rule == "refuse" and not keep:
            first = int(found.nonzero()[0])
            raise ConfigError(
                f"{int(found.sum())} of {len(held_out)} held-out examples have the {what} of a training example "
                f"(example {int(held_out[first])} that of {int(of[first])}), so a table of the training labels would "
                f'answer them. Pass copies="drop" to leave them out of the test set'
            )
        copied |= found
    if rule == "refuse":
        return HeldOut(held_out, held_out[:0], int(copied.sum()))
    if copied.all():
        raise ConfigError("the test set is empty: every held-out example is a copy of a training example")
    return HeldOut(held_out[~copied], held_out[copied])


def copies(
    rows: Shaped[Tensor, "example ..."], held_out: Int[Tensor, " held_out"], train: Int[Tensor, " train"]
) -> tuple[Bool[Tensor, " held_out"], Int[Tensor, " held_out"]]:
    """Return which held-out rows equal a training row, and the training row that each was compared with.

    Rows are hashed in one pass, and those of equal hash compared, so a row is never taken for a copy by accident. 0 and
    −0 are equal.
    """
    hashes = _hashes(rows)
    own, other = hashes[held_out.numpy()], hashes[train.numpy()]
    order = np.argsort(other, kind="stable")
    place = np.searchsorted(other[order], own).clip(max=len(other) - 1)
    of = train[torch.from_numpy(order[place])]
    found = torch.from_numpy(other[order][place] == own)
    alike = found.clone()
    for part in blocks(int(found.sum()), max(1, BLOCK_BYTES // max(1, rows[0].numel()))):
        chosen = found.nonzero()[part, 0]
        alike[chosen] = torch.from_numpy((_bytes(rows[held_out[chosen]]) == _bytes(rows[of[chosen]])).all(1))
    return alike, of


def _hashes(rows: Shaped[Tensor, "row ..."]) -> np.ndarray:
    """Return a 64-bit hash of each row's bytes: the sum of its words, each mixed with its place."""
    width = rows[0].numel() * rows.element_size()
    words = -(-width // 8)
    place = np.random.default_rng(0).integers(0, 2**64, words, dtype=np.uint64)
    found = np.zeros(len(rows), dtype=np.uint64)
    for part in blocks(len(rows), BLOCK_BYTES // max(1, width)):
        held = np.zeros((len(found[part]), 8 * words), dtype=np.uint8)
        held[:, :width] = _bytes(rows[part])
        mixed = held.view(np.uint64) + place
        # The finalizer of splitmix64: without it, differences in the sign bits of two words could cancel.
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        found[part] = (mixed ^ (mixed >> np.uint64(31))).sum(1, dtype=np.uint64)
    return found


def _bytes(rows: Shaped[Tensor, "row ..."]) -> np.ndarray:
    """Return the bytes of each row, with −0 as 0. Shape (row, byte)."""
    plain = rows.detach().cpu().reshape(len(rows), rows.shape[1:].numel())
    plain = plain + 0 if plain.is_floating_point() or plain.is_complex() else plain
    # As bytes, because numpy has no bfloat16.
    return plain.contiguous().view(torch.uint8).numpy()
