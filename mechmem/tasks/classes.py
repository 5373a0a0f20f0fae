"""Checks of labels: each must be a class, and that of a held-out example must be known."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from mechmem.errors import ConfigError


def check_from_zero(labels: Int[Tensor, " example"], name: str) -> None:
    """Refuse labels that are no classes because they are negative.

    Raises:
        ConfigError: one is.
    """
    if len(labels) and int(labels.min()) < 0:
        raise ConfigError(
            f"{name} must be classes, numbered from 0 on, and holds {int(labels.min())}, which is no class; labels −1 "
            "and +1 become 0 and 1 by (labels + 1) // 2"
        )


def check_known(true: Int[Tensor, " held_out"]) -> None:
    """Refuse held-out examples whose true label is not known.

    Raises:
        ConfigError: one is not.
    """
    if (true < 0).any():
        raise ConfigError("the true label of every held-out example must be known, and −1 says that it is not")


def check_range(given: Int[Tensor, " example"], true: Int[Tensor, " example"], n_classes: int) -> None:
    """Refuse labels outside the classes; true labels may be −1, not known.

    Raises:
        ConfigError: one is.
    """
    low, high = int(given.min()), max(int(given.max()), int(true.max()))
    if low < 0 or high >= n_classes:
        raise ConfigError(f"labels must lie in 0 … {n_classes - 1}, got {low} … {high}")
