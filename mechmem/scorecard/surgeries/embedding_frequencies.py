"""Strongest frequencies of the input embedding, with the others removed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.scorecard.strongest_frequencies import CountedFrequencies


@dataclasses.dataclass(frozen=True)
class EmbeddingFrequencies(CountedFrequencies):
    """Remove all but the strongest frequencies from the input embedding's vectors over the symbols.

    Frequencies are ranked by their energy per coefficient, over the columns of the embedding, which are neurons or
    dimensions of the residual stream; all columns keep the same frequencies. If each operand has its own embedding,
    each keeps its own strongest: that they agree would be knowledge of the operation. Constants, symbols outside the
    group (0 under multiplication) and tokens that are not symbols ("=") are unchanged.

    Attributes:
        count: number of frequencies to keep, fewer than the group has; by default 20 of 56, as in the paper (at least
            one).
        by: "energy" for those with the most energy, or "random", which is the control.
        seed: seed of the random choice.
    """

    name: ClassVar[str] = "embedding_frequencies"
    needs: ClassVar[frozenset[str]] = frozenset({"pairs", "group", "role:input_embedding"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "input_group"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022; Nanda et al. 2023, arXiv 2301.05217"

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with a changed copy of its model.

        Raises:
            MissingNeedError: a need is missing, or no frequency would be removed.
            RoleError: the input embedding does not read as (operands, symbols, neurons).
        """
        self.require(subject)
        task, role = subject.task, subject.roles.input_embedding
        assert task.group is not None and role is not None
        model = subject.copy_model()
        embedding = read_role(subject.roles, "input_embedding", model, "operands", task.symbols, "neurons")
        kept = [self.kept_part(task.group, embedding[0], f"{self.name} 0")]
        for operand, vectors in enumerate(embedding[1:], 1):
            # An embedding shared by both operands is written as their mean, so both need the same choice.
            shared = torch.equal(vectors, embedding[0])
            kept.append(kept[0] if shared else self.kept_part(task.group, vectors, f"{self.name} {operand}"))
        role.write(model, torch.stack(kept).to(embedding.dtype))
        return subject.with_model(model)
