"""Sequences from a planted grammar, with random passages among them."""

from __future__ import annotations

import torch

from mechmem.core.arguments import checked
from mechmem.core.randomness import generator
from mechmem.math.markov import MarkovSource
from mechmem.tasks.grid_tasks import ConfiguredTask
from mechmem.tasks.sequence_config import GrammarConfig
from mechmem.tasks.sequences import SequenceTask

GRAMMAR, PASSAGE = "grammar", "passage"
"""Groups of the sequences."""


class GrammarTask(ConfiguredTask, SequenceTask):
    """Next tokens of sequences from a planted grammar, with random passages among them (see `SequenceTask`).

    Sequences are in the groups "grammar" and "passage". Passages that are never shown are controls. The true label of a
    prefix is the grammar's most probable next token, in passages too: the grammar has one for whatever came before.

    Args:
        config: the grammar, the sequences and the seed; the same config gives the same task.

    Attributes:
        grammar: the source.
        best_loss: the least possible expected loss on sequences from the grammar, in nats per token; exact.
        best_accuracy: the greatest possible expected accuracy on them, of next tokens as they come; exact.

    Raises:
        ConfigError: every held-out sequence is one of the training set.
    """

    @checked
    def __init__(self, config: GrammarConfig):
        self.config = config

        def draw(stream: str) -> torch.Generator:
            return generator(config.seed, stream)

        self.grammar = MarkovSource.drawn(config.vocabulary, config.order, config.sharpness, draw("grammar"))
        drawn = self.grammar.draw(config.train + config.test, config.length, draw("sequences"))
        shown = config.passages * len(config.repeats)
        size = (shown + config.controls, config.length)
        passages = torch.randint(config.vocabulary, size, generator=draw("passages"))
        times = [each for each in config.repeats for _ in range(config.passages)]
        often = torch.tensor([1] * len(drawn) + times + [1] * config.controls)
        parts = ["train"] * config.train + ["test"] * config.test + ["train"] * shown + ["control"] * config.controls
        groups = [GRAMMAR] * len(drawn) + [PASSAGE] * len(passages)
        rows = torch.cat([drawn, passages]).repeat_interleave(often, 0)
        repeated = [place for place, each in enumerate(often.tolist()) for _ in range(each)]
        self.title = f"next tokens of a grammar of {config.vocabulary} tokens"
        SequenceTask.__init__(
            self,
            rows,
            split=[parts[place] for place in repeated],
            groups=[groups[place] for place in repeated],
            best=self.grammar.best(rows),
            vocabulary=config.vocabulary,
            copies="drop",
        )
        loss, accuracy = self.grammar.expected(config.length)
        self.best_loss, self.best_accuracy = float(loss.mean()), float(accuracy.mean())
