"""Since when the network answers the given label."""

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
from mechmem.training.run import recorded_right


@dataclasses.dataclass(frozen=True)
class LearningSpeed(ExampleScore):
    """Score examples by the optimisation step from which on the given label is answered until the end of the run.

    A run is looked at from time to time: this is the step of the first evaluation of which that is true, and the
    example was learned between it and the evaluation before. Of an example whose given label is not answered in the end
    it is infinite. It is read from the whole run, from whichever of its states the network was opened.
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
            MissingNeedError: the run did not record which examples were right, or it was on another task.
        """
        step, right = recorded_right(subject, subject.task.sources, self.name)
        fitted, _ = fitting_times(right)
        # The last is where −1 points to.
        values = np.append(step.astype(float), np.inf)[fitted]
        never = int(np.isinf(values).sum())
        return torch.from_numpy(values), f"at {len(step)} evaluations" + (f"; {never} never" if never else "")
