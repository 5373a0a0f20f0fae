"""Number of times that training forgot a learned example."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.training.predicted import recorded_right


@dataclasses.dataclass(frozen=True)
class ForgettingEvents(ExampleScore):
    """Score examples by how often their given label is predicted at one evaluation but not at the next.

    An example whose given label is never predicted counts as forgotten infinitely often, as in the paper. The paper
    checks an example whenever a minibatch holds it; a run is evaluated at a few log-spaced steps, including step 0, so
    this is a lower bound. The note gives the number of evaluations; `TrainConfig(evaluations=…)` sets it. If the run's
    training passes were observed (`Recorder.observe`, or a callback of a trainer), every epoch counts, as in the paper.
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
            MissingNeedError: the run did not record which examples it predicted as given, or its task is another.
        """
        predicted = recorded_right(subject, subject.task.sources, self.name)
        right = predicted.right
        events = torch.from_numpy((right[:-1] & ~right[1:]).sum(0)).double()
        learned = torch.from_numpy(right.any(0))
        note = f"counted over {predicted.times}" + ("" if predicted.observed else ", a lower bound")
        return events.masked_fill(~learned, torch.inf), note
