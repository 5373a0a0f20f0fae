"""Twins: the same network trained differently or not at all, from disk or retrained."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from mechmem.core.in_words import shown
from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError
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
    """Return a network's twin, or the reason why there is none.

    The untrained twin is step 0 of the run if that is on disk; all others come from the retrainer, which may train
    them.

    Args:
        subject: the network.
        kind: kind of the twin.
        given: the twin itself, if the caller has it.
        train: trains a network on a task like the subject's; used for the noise-only twin instead of the retrainer.
        progress: whether to show a progress bar during training.
    """
    if given is not None:
        return given
    if kind == "noise_only" and train is not None:
        found = train(noise_only(subject.task))
        if not isinstance(found, nn.Module):
            raise ConfigError(f"train must return a network (torch.nn.Module), got {shown(found)}")
        return found
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
    """Return the subject with a twin as its network and "", or None and the reason why there is none."""
    found = twin(subject, kind)
    return (None, found) if isinstance(found, str) else (subject.with_model(found), "")
