"""Control models: the same extractors, with the original task, where there is nothing to read beyond the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from mechmem.contracts import Subject, Task, TwinKind
from mechmem.errors import MechmemError, MissingNeedError
from mechmem.models.table import LogitTable
from mechmem.tasks.label_tables import kernel_ridge, label_grid
from mechmem.tasks.relabelled import noise_only

NETWORK_CONTROLS: tuple[TwinKind, ...] = ("untrained", "one_step", "noise_only")
"""Twins of the network: shown beside every extractor."""

LABEL_CONTROLS = ("label_grid", "kernel_ridge")
"""Predictors made from the given labels alone: shown beside extractors that read nothing but logits."""

Train = Callable[[Task], nn.Module]


def control_models(
    subject: Subject, given: Mapping[str, nn.Module | None], train: Train | None, *, progress: bool
) -> dict[str, nn.Module | str]:
    """Return each control's model, or the reason why there is none.

    Args:
        subject: the network to be controlled.
        given: twins that the caller made himself, by kind.
        train: trains a network on a task like the subject's; used for the noise-only twin.
        progress: whether training a twin shows a bar.
    """
    models: dict[str, nn.Module | str] = {}
    for kind in NETWORK_CONTROLS:
        models[kind] = given.get(kind) or _twin(subject, kind, train, progress=progress)
    for name, build in (("label_grid", label_grid), ("kernel_ridge", kernel_ridge)):
        try:
            models[name] = LogitTable(build(subject.task), subject.task)
        except (MechmemError, ValueError) as error:  # scikit-learn's, of inputs that are not finite
            models[name] = str(error).splitlines()[0]
    return models


def _twin(subject: Subject, kind: TwinKind, train: Train | None, *, progress: bool) -> nn.Module | str:
    if kind == "noise_only" and train is not None:
        return train(noise_only(subject.task))
    if subject.recipe is None:
        return f"no recipe to make the {kind.replace('_', '-')} twin from; pass {kind}="
    try:
        return subject.recipe.twin(kind, progress=progress)
    except MissingNeedError as error:
        return str(error)
