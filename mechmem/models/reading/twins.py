"""The same network trained otherwise, or not at all: found on disk, or made."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.models.hooks.running import device_of
from mechmem.tasks.relabelled import noise_only

Train = Callable[[Task], nn.Module]


def twin(
    subject: Subject,
    kind: TwinKind,
    given: nn.Module | None = None,
    *,
    train: Train | None = None,
    progress: bool = False,
) -> nn.Module | str:
    """Return a network's twin, or why there is none.

    The untrained twin is step 0 of the run where it is on disk; every other one is made by the retrainer, which may
    train it.

    Args:
        subject: the network.
        kind: which twin.
        given: the twin itself, where the caller has it.
        train: trains a network on a task like the subject's; makes the noise-only twin in the retrainer's place.
        progress: whether training shows a bar.
    """
    if given is not None:
        return given
    if kind == "noise_only" and train is not None:
        return train(noise_only(subject.task))
    reason = "the network has no retrainer"
    if kind == "untrained":
        if subject.run is not None and 0 in subject.run.checkpoint_steps():
            return subject.run.model_at(0).to(device_of(subject.model))
        reason = "the network has neither a run with step 0 nor a retrainer"
    if subject.retrainer is not None:
        try:
            return subject.retrainer.twin(kind, progress=progress)
        except MissingNeedError as error:
            reason = str(error)
    return f"no {kind.replace('_', '-').removesuffix('s')} twin: {reason}"


def twin_subject(subject: Subject, kind: TwinKind) -> tuple[Subject | None, str]:
    """Return the subject with a twin in the network's place and "", or None and why there is none."""
    found = twin(subject, kind)
    return (None, found) if isinstance(found, str) else (subject.with_model(found), "")
