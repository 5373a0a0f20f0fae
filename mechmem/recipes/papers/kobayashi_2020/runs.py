"""Networks of the follow-up study, with and without turn-over dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mechmem.recipes.claims import Arms, Scale, Trial, seeded
from mechmem.recipes.papers.liu_lin_jaggi_2021.runs import SEEDS, config

CLEAN, CLEAN_PLAIN = "true labels, turn-over", "true labels, no masks"
NOISY = "ξ .2, turn-over"

ARMS: Arms = {
    CLEAN: config,
    CLEAN_PLAIN: partial(config, masked=False),
    NOISY: partial(config, xi=0.2),
}


def trials(*arms: str) -> Callable[[Scale], list[Trial]]:
    """Return the trials of these arms."""
    return lambda scale: seeded(scale, SEEDS, {arm: ARMS[arm] for arm in arms})
