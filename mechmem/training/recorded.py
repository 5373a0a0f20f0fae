"""What a run recorded of single examples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.contracts import Subject
from mechmem.errors import MissingNeedError
from mechmem.training.run import Run


def recorded_right(
    subject: Subject, ids: Int[Tensor, " example"], name: str
) -> tuple[Int[np.ndarray, " evaluation"], Bool[np.ndarray, "evaluation example"]]:
    """Return the steps at which a run was evaluated, and which examples' given labels were predicted at each.

    Args:
        subject: a network with its run.
        ids: the examples, as they are without augmentation or as fixed views.
        name: who asks.

    Raises:
        MissingNeedError: there is no run that recorded it, or it did so on another task.
        RunDirectoryError: the run is damaged.
    """
    run, task = subject.run, subject.task
    if not isinstance(run, Run):
        raise MissingNeedError(f"{name!r} needs a run that recorded which examples were right")
    if run.task().digest != task.digest:
        raise MissingNeedError(f"{name!r} needs a run on this task, {task.digest}; it was on {run.task().digest}")
    return run.history()["step"].to_numpy(np.int64, copy=True), run.correctness()[0][:, task.rows(ids).numpy()]
