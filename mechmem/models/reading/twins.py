"""Twins: the same network trained differently or not at all, from disk or retrained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mechmem.core.in_words import shown
from mechmem.core.subject import Subject, TwinKind
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MechmemError, MissingNeedError
from mechmem.models.hooks.running import device_of, differentiating
from mechmem.models.reading.forward import logits_of
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

    Raises:
        ConfigError: `train` returns no network, or none that is a control of the subject's.
    """
    if given is not None:
        return given
    if kind == "noise_only" and train is not None:
        with differentiating():
            found = train(noise_only(subject.task))
        if not isinstance(found, nn.Module):
            raise ConfigError(f"train must return a network (torch.nn.Module), got {shown(found)}")
        check_twin(subject, "the network that train returns", found)
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


def check_twin(subject: Subject, name: str, found: nn.Module, *, unread: bool = False) -> None:
    """Refuse a twin that is the subject's network, of another architecture, or cannot be run on its inputs.

    Args:
        subject: the network.
        name: the argument that gave the twin, for errors.
        found: the twin.
        unread: whether neither its numbers nor its answers are looked at, since it is read later.

    Raises:
        ConfigError: the twin is no control of the network.
    """
    if found is subject.model or (not unread and _same_numbers(found, subject.model)):
        raise ConfigError(f"{name} must be another network than the subject's, which is no control of itself")
    try:
        made = subject.with_model(found)
        if not unread:
            logits_of(made.model, made.task, made.task.test_ids[:1], made.roles.output)
    except MechmemError as error:
        raise ConfigError(f"{name} must be a network like the subject's: {error}") from error
    own, others = (sorted(tuple(each.shape) for each in model.parameters()) for model in (subject.model, found))
    if own != others:
        odd = next(shape for shape in (*others, *own) if own.count(shape) != others.count(shape))
        counts = f"it has {others.count(odd)} parameters of shape {odd}, the subject's network {own.count(odd)}"
        raise ConfigError(f"{name} must be a network like the subject's, of the same architecture: {counts}")


def _same_numbers(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two networks hold the same parameters and buffers, and have any."""
    states = one.state_dict(), other.state_dict()
    if not states[0] or states[0].keys() != states[1].keys():
        return False
    pairs = [(states[0][name], states[1][name]) for name in states[0]]
    try:
        return all(a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
    except (RuntimeError, ValueError):  # parameters without numbers, which running the network tells
        return False


def twin_subject(subject: Subject, kind: TwinKind) -> tuple[Subject | None, str]:
    """Return the subject with a twin as its network and "", or None and the reason why there is none."""
    found = twin(subject, kind)
    return (None, found) if isinstance(found, str) else (subject.with_model(found), "")
