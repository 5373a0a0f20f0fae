"""The same network before training."""

from __future__ import annotations

from torch import nn

from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError


def initial_model(subject: Subject) -> tuple[nn.Module | None, str]:
    """Return the network as it was before training and "", or None and why there is none.

    Args:
        subject: its run may hold step 0; otherwise its retrainer makes the untrained twin.
    """
    if subject.run is not None and 0 in subject.run.checkpoint_steps():
        return subject.run.model_at(0), ""
    if subject.retrainer is None:
        return None, "no initialisation to compare with: the network has neither a run with step 0 nor a retrainer"
    try:
        return subject.retrainer.twin("untrained"), ""
    except MissingNeedError as error:
        return None, f"no initialisation to compare with: {error}"
