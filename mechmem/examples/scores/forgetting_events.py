"""How often what was learned is forgotten."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.training.run import recorded_right


@dataclasses.dataclass(frozen=True)
class ForgettingEvents(ExampleScore):
    """Score examples by how often their given label is answered at one evaluation and no more at the next.

    An example whose given label is answered at no evaluation has been forgotten infinitely often, as in the paper. It
    looks at an example whenever a minibatch holds it; a run is evaluated at a few log-spaced steps, step 0 among them,
    so that this is a lower bound. The note says how many there were; `TrainConfig(evaluations=…)` sets it.
    """

    name: ClassVar[str] = "forgetting_events"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Toneva et al. 2019, arXiv 1812.05159"
    higher: ClassVar[str] = "forgotten more often"
    unit: ClassVar[str] = "events"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the counts.

        Raises:
            MissingNeedError: the run did not record which examples were right, or it was on another task.
        """
        step, right = recorded_right(subject, subject.task.sources, self.name)
        events = torch.from_numpy((right[:-1] & ~right[1:]).sum(0)).double()
        learned = torch.from_numpy(right.any(0))
        note = f"counted over {len(step)} evaluations, a lower bound"
        return events.masked_fill(~learned, torch.inf), note
