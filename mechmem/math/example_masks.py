"""Masks over units that an example's id decides: the same in every batch, process and session, and on every device.

Torch has no logical shift and no unsigned product of 64 bits on all devices, so that the hash is numpy's, on the CPU.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt64
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64: 2⁶⁴ divided by the golden ratio, made odd."""


def example_mask(ids: Int[Tensor, " example"], units: int, keep: float, key: int) -> Bool[Tensor, "example unit"]:
    """Return which units belong to each example: every one with probability `keep`, independently.

    A unit belongs to an example if 63 bits of a hash of (key, id, unit) are below keep · 2⁶³: nothing is rounded to
    float32, and no id repeats another's masks. The hash is SplitMix64 (Steele, Lea & Flood 2014), started anew for each
    example.

    Args:
        ids: the examples' ids, 0 or above.
        units: how many units there are.
        keep: probability that a unit belongs to an example, in (0, 1).
        key: what tells one layer's masks from another's.

    Returns:
        the masks, on the CPU; to be read only, since those of the last few calls are kept.
    """
    return _masks(ids.cpu().numpy().astype(np.int64).tobytes(), units, int(keep * 2**63), key)


@functools.lru_cache(maxsize=64)
def _masks(ids: bytes, units: int, threshold: int, key: int) -> Bool[Tensor, "example unit"]:
    # A network on the full batch asks for the same masks in every step.
    examples = np.frombuffer(ids, dtype=np.uint64)
    started = _mixed(examples * GOLDEN + np.uint64(key))
    steps = np.arange(1, units + 1, dtype=np.uint64) * GOLDEN
    found = _mixed(started[:, None] + steps[None, :]) >> np.uint64(1)
    return torch.from_numpy(found < np.uint64(threshold))


def _mixed(state: UInt64[np.ndarray, ...]) -> UInt64[np.ndarray, ...]:
    """Return the output of SplitMix64 for each state; the array that comes in is used up."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
