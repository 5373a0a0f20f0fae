"""`analyse`, which runs an analysis by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from mechmem.core.arguments import checked
from mechmem.core.plugins import named
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task


@checked
def analyse(
    subject: nn.Module | Subject,
    name: str,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
    **settings: Any,
) -> Result:
    """Run one analysis on a network.

        mm.analyse(network, "embedding_spectrum").plot()
        mm.analyse(network, "partition", by="ipr").to_frame()

    Args:
        subject: a subject (e.g. a trained run), or a network.
        name: the analysis, optionally with settings in parentheses: "partition(by=ipr)". `mechmem list` and the
            reference list them.
        task: the task of a bare network.
        roles: the network's roles; by default its own.
        settings: the analysis's settings, by name; they override those in parentheses.

    Raises:
        UnknownNameError: there is no such analysis or setting; the message suggests the nearest.
        ConfigError: the name cannot be parsed, a setting is not allowed, or a bare network lacks its task.
        MissingNeedError: the network lacks what the analysis needs.
    """
    return named("analyses", name, **settings)(subject_of(subject, task, roles))
