"""Random numbers derived from a hash of (seed, stream, step), never from global state.

A resumed run therefore needs no generator state and equals an uninterrupted one bit for bit.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, stream: str, step: int = 0) -> int:
    """Hash (seed, stream, step) to an integer in [0, 2**63).

    Args:
        seed: the seed of the config.
        stream: purpose of the randomness ("init", "split", "label_noise", "order", …).
        step: the optimisation step, for streams that are used at every step.
    """
    text = f"{int(seed)}|{stream}|{int(step)}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Return a CPU generator for one stream; drawing on the CPU makes devices agree."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, stream, step))
