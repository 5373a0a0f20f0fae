"""Step from which on the network predicts the given label."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.plugins import ExampleScore
from mechmem.core.subject import Subject
from mechmem.math.training_phases import fitting_times
from mechmem.training.predicted import recorded_right


@dataclasses.dataclass(frozen=True)
class LearningSpeed(ExampleScore):
    """Score examples by the optimisation step from which on the given label is predicted until the end of the run.

    This is the step of the first such evaluation; the example was learned between it and the evaluation before. It is
    infinite if the given label is not predicted at the end. The score covers the whole run, whichever of its states the
    network is. If the run's training passes were observed (`Recorder.observe`, or a callback of a trainer), these take
    the place of evaluations, and the step is that at the end of an epoch.
    """

    name: ClassVar[str] = "learning_speed"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "checkpoints"})
    cites: ClassVar[str] = "Maini et al. 2022, arXiv 2210.15031 (first-split learning time)"
    higher: ClassVar[str] = "learned later"
    unit: ClassVar[str] = "steps"

    def measure(self, subject: Subject) -> tuple[Float[Tensor, " example"], str]:
        """Return the steps.

        Raises:
            MissingNeedError: the run did not record which examples it predicted as given, or its task is another.
        """
        predicted = recorded_right(subject, subject.task.sources, self.name)
        fitted, _ = fitting_times(predicted.right)
        # Index −1 takes the last value.
        values = np.append(predicted.step.astype(float), np.inf)[fitted]
        never = int(np.isinf(values).sum())
        return torch.from_numpy(values), f"at {predicted.times}" + (f"; {never} never" if never else "")
