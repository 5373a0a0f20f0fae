"""Which given labels a network predicted over its run: in every epoch if that was observed, else at its evaluations."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError
from mechmem.training.observations import Observations
from mechmem.training.run import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Predicted:
    """Which examples' given labels were predicted over a run.

    Attributes:
        step: optimisation step of each evaluation, or of the end of each epoch. Shape (evaluation).
        right: whether the given label was predicted; an example that an epoch did not see is as it was in the one
            before. Shape (evaluation, example).
        observed: whether these are epochs of training passes, not evaluations.
    """

    step: Int[np.ndarray, " evaluation"]
    right: Bool[np.ndarray, "evaluation example"]
    observed: bool

    @property
    def times(self) -> str:
        """How many evaluations or epochs these are, in words."""
        kind = "epoch" if self.observed else "evaluation"
        count = f"{len(self.step)} {kind}{'' if len(self.step) == 1 else 's'}"
        return f"{count}, in training mode" if self.observed else count


def recorded_right(subject: Subject, ids: Int[Tensor, " example"], name: str) -> Predicted:
    """Return which examples' given labels were predicted over a run.

    Args:
        subject: a network with its run.
        ids: the examples, without augmentation or as fixed views.
        name: name of the caller, for errors.

    Raises:
        MissingNeedError: there is no recorded run, or it is of another task.
        RunDirectoryError: the run is damaged.
    """
    run, task = _run(subject, name), subject.task
    if run.observed and bool(torch.isin(ids, task.train_ids).all()):
        found = run.observations()
        seen, right = found.count.numpy() > 0, found.right.numpy() > 0.5
        epochs = np.arange(len(seen))[:, None]
        # Of each epoch the last one that saw the example; before the first, nothing was right.
        last = np.maximum.accumulate(np.where(seen, epochs, -1), axis=0)
        known = np.take_along_axis(right, last.clip(0), axis=0) & (last >= 0)
        return Predicted(found.step.numpy(), known[:, _columns(found, ids)], observed=True)
    step = run.history()["step"].to_numpy(np.int64, copy=True)
    return Predicted(step, run.correctness()[0][:, task.rows(ids).numpy()], observed=False)


def observations_of(subject: Subject, ids: Int[Tensor, " example"], name: str) -> Observations:
    """Return what training passes said of some training examples, each of which was seen.

    Args:
        subject: a network with its run.
        ids: the examples.
        name: name of the caller, for errors.

    Raises:
        MissingNeedError: there are no observations of an example, or the run is of another task.
        RunDirectoryError: the run is damaged.
    """
    found = _run(subject, name).observations()
    strangers = ids[~torch.isin(ids, found.ids)]
    chosen = _columns(found, ids[torch.isin(ids, found.ids)])
    unseen = found.ids[chosen][found.count[:, chosen].sum(0) == 0]
    lost = torch.cat([strangers, unseen])
    if len(lost):
        raise MissingNeedError(
            f"{name!r} needs each training example seen in training; {len(lost)} of {len(ids)} were not (the first is "
            f"example {int(lost[0])})"
        )
    columns = {each: getattr(found, each)[:, chosen] for each in ("count", "right", "loss", "margin")}
    return Observations(step=found.step, ids=ids, **columns)


def _columns(found: Observations, ids: Int[Tensor, " example"]) -> Int[Tensor, " example"]:
    """Return the places of some of the observed examples."""
    order = torch.argsort(found.ids)
    return order[torch.searchsorted(found.ids[order], ids)]


def _run(subject: Subject, name: str) -> Run:
    run, task = subject.run, subject.task
    if not isinstance(run, Run):
        raise MissingNeedError(f"{name!r} needs a run that recorded which predictions were correct")
    if run.task().digest != task.digest:
        raise MissingNeedError(f"{name!r} needs a run on this task, {task.digest}; it was on {run.task().digest}")
    return run
