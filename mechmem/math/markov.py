"""Markov sources over tokens: drawing sequences, next-token probabilities, and the best possible loss, exactly."""

from __future__ import annotations

import dataclasses

import torch
from einops import rearrange
from jaxtyping import Float64, Int
from torch import Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class MarkovSource:
    """A source whose next token depends on the last few tokens, with a table for each number of them.

    Attributes:
        tables: probabilities of the next token after k tokens, for k = 0 … order. Table k has shape (context, class);
            context (t₁, …, t_k), oldest first, is row Σ t_i · V^(k−i). A sequence's first tokens, which have fewer than
            `order` before them, are drawn from the smaller tables.
    """

    tables: tuple[Float64[Tensor, "_ class"], ...]

    @classmethod
    def drawn(cls, vocabulary: int, order: int, sharpness: float, draw: torch.Generator) -> MarkovSource:
        """Draw a source: logits are normal with standard deviation `sharpness`, so every token can follow any other.

        Args:
            vocabulary: number of tokens V.
            order: number of tokens on which the next depends.
            sharpness: standard deviation of the logits, in nats; 0 for uniform tokens.
            draw: generator.
        """
        logits = (torch.randn(vocabulary**k, vocabulary, generator=draw).double() for k in range(order + 1))
        return cls(tuple((sharpness * each).softmax(1) for each in logits))

    @property
    def order(self) -> int:
        """Number of tokens on which the next one depends."""
        return len(self.tables) - 1

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.tables[0].shape[1]

    def draw(self, n: int, length: int, draw: torch.Generator) -> Int[Tensor, "sequence token"]:
        """Draw sequences."""
        found = torch.empty(n, length, dtype=torch.long)
        for place in range(length):
            probabilities = self._after(found[:, :place])
            found[:, place] = torch.multinomial(probabilities, 1, generator=draw)[:, 0]
        return found

    def probabilities(self, tokens: Int[Tensor, "sequence token"]) -> Float64[Tensor, "sequence position class"]:
        """Return the probabilities of what follows each token, given all before it; nothing follows the last one."""
        return torch.stack([self._after(tokens[:, : place + 1]) for place in range(tokens.shape[1] - 1)], 1)

    def losses(self, tokens: Int[Tensor, "sequence token"]) -> Float64[Tensor, "sequence position"]:
        """Return −ln of the probability of each token but the first, given those before it, in nats."""
        after = self.probabilities(tokens)
        return -after.log().gather(2, rearrange(tokens[:, 1:], "sequence position -> sequence position 1"))[:, :, 0]

    def best(self, tokens: Int[Tensor, "sequence token"]) -> Int[Tensor, "sequence position"]:
        """Return the most probable token after each token but the last, given all before it."""
        return self.probabilities(tokens).argmax(2)

    def expected(self, length: int) -> tuple[Float64[Tensor, " position"], Float64[Tensor, " position"]]:
        """Return the least possible expected loss, in nats, and the greatest possible accuracy of each prediction.

        Over all sequences of this length, the first token not being predicted. They are those of the source itself:
        the entropy of its next token, and the probability of its most probable one.
        """
        contexts = torch.ones(1, dtype=torch.float64)
        loss, accuracy = [], []
        for place in range(length):
            table = self.tables[min(place, self.order)]
            if place:
                loss.append((contexts * -(table * table.log()).sum(1)).sum())
                accuracy.append((contexts * table.amax(1)).sum())
            longer = rearrange(rearrange(contexts, "context -> context 1") * table, "context token -> (context token)")
            # Beyond `order` tokens the oldest is forgotten.
            full = len(longer) > self.vocabulary**self.order
            contexts = rearrange(longer, "(old rest) -> old rest", old=self.vocabulary).sum(0) if full else longer
        return torch.stack(loss), torch.stack(accuracy)

    def _after(self, before: Int[Tensor, "sequence place"]) -> Float64[Tensor, "sequence class"]:
        """Return the probabilities of the next token after these, of which the last `order` count."""
        known = before[:, max(0, before.shape[1] - self.order) :]
        row = torch.zeros(len(before), dtype=torch.long)
        for column in known.unbind(1):
            row = row * self.vocabulary + column
        return self.tables[known.shape[1]][row]
