"""Config of a task of sequences from a planted grammar. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from mechmem.core.config import check_number, check_whole
from mechmem.errors import ConfigError
from mechmem.tasks.config import TaskConfig

MOST_TOKENS = 2**26
"""Most tokens of all sequences together."""
MOST_CONTEXTS = 2**20
"""Most rows of the grammar's largest table."""


@dataclasses.dataclass(frozen=True)
class GrammarConfig(TaskConfig):
    """Next tokens of sequences from a grammar whose probabilities are known, and of random passages among them.

    The grammar is a Markov source: the next token depends on the last `order` tokens. Passages are uniformly random, so
    that beyond its first tokens one can only be continued by a network that memorized it. Each is shown as often per
    epoch as `repeats` says, every other training sequence once.

    Attributes:
        vocabulary: number of tokens.
        order: number of tokens on which the next one depends.
        sharpness: standard deviation of the grammar's logits in nats: 0 for uniform tokens, large for a nearly
            deterministic grammar.
        length: tokens of a sequence, of which all but the first are predicted.
        train: number of training sequences from the grammar.
        test: number of held-out sequences from the grammar.
        repeats: numbers of times that passages are shown in an epoch.
        passages: number of passages that are shown so often, for each of `repeats`.
        controls: number of random passages that are never shown, with which the shown ones are compared.
        seed: seed of the grammar and of everything drawn from it.
    """

    kind: ClassVar[str] = "grammar"
    vocabulary: int = 32
    order: int = 1
    sharpness: float = 2.0
    length: int = 32
    train: int = 2000
    test: int = 200
    repeats: tuple[int, ...] = (1, 2, 4, 8, 16)
    passages: int = 8
    controls: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate without building anything."""
        check_whole("vocabulary", self.vocabulary, 2)
        check_whole("order", self.order, 1)
        check_number("sharpness", self.sharpness, least=0)
        check_whole("length", self.length, 2)
        for setting in ("train", "test"):
            check_whole(f"number of {setting} sequences", getattr(self, setting), 1)
        for setting in ("passages", "controls", "seed"):
            check_whole(setting, getattr(self, setting), 0)
        for each in self.repeats:
            check_whole("a number of repeats", each, 1)
        if len(set(self.repeats)) < len(self.repeats):
            raise ConfigError(f"repeats must be different numbers, got {self.repeats}")
        if self.vocabulary**self.order > MOST_CONTEXTS:
            raise ConfigError(
                f"vocabulary ** order must be at most {MOST_CONTEXTS:,}, got {self.vocabulary} ** {self.order}"
            )
        sequences = self.train + self.test + self.passages * sum(self.repeats) + self.controls
        if sequences * self.length > MOST_TOKENS:
            raise ConfigError(f"all sequences together must have at most {MOST_TOKENS:,} tokens")
        random = self.passages * len(self.repeats) + self.controls
        if random and self.length * math.log2(self.vocabulary) < 20 + 2 * random.bit_length():
            raise ConfigError(
                f"{self.length} tokens of {self.vocabulary} kinds are too few to tell {random} random passages apart; "
                "take longer sequences or a larger vocabulary"
            )
