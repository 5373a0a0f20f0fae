"""Masks over units determined by an example's id: the same in every batch, process and session, and on every device.

The hash runs in numpy on the CPU, because torch lacks a logical shift and an unsigned 64-bit product on some devices.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt64
from torch import Tensor

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""The step of SplitMix64: 2⁶⁴ divided by the golden ratio, rounded to an odd number."""


def example_mask(ids: Int[Tensor, " example"], units: int, keep: float, key: int) -> Bool[Tensor, "example unit"]:
    """Return which units belong to each example: each independently with probability `keep`.

    A unit belongs to an example if 63 bits of a hash of (key, id, unit) are below keep · 2⁶³: nothing is rounded to
    float32, and no two ids share masks. The hash is SplitMix64 (Steele, Lea & Flood 2014), seeded per example.

    Args:
        ids: the examples' ids, 0 or above.
        units: number of units.
        keep: probability that a unit belongs to an example, in (0, 1).
        key: key that distinguishes the masks of different layers.

    Returns:
        the masks, on the CPU; they are cached, so do not modify them.
    """
    return _masks(ids.cpu().numpy().astype(np.int64).tobytes(), units, int(keep * 2**63), key)


@functools.lru_cache(maxsize=64)
def _masks(ids: bytes, units: int, threshold: int, key: int) -> Bool[Tensor, "example unit"]:
    # In full-batch training every step needs the same masks.
    examples = np.frombuffer(ids, dtype=np.uint64)
    started = _mixed(examples * GOLDEN + np.uint64(key))
    steps = np.arange(1, units + 1, dtype=np.uint64) * GOLDEN
    found = _mixed(started[:, None] + steps[None, :]) >> np.uint64(1)
    return torch.from_numpy(found < np.uint64(threshold))


def _mixed(state: UInt64[np.ndarray, ...]) -> UInt64[np.ndarray, ...]:
    """Return the output of SplitMix64 for each state, in place."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state
