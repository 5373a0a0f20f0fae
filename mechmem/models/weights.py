"""A network's input and output vectors, read by role and checked against its task."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mechmem.contracts import Group, Subject
from mechmem.errors import MissingNeedError, RoleError


def neuron_weights(
    subject: Subject, model: nn.Module | None = None
) -> tuple[Group, Float[Tensor, "operand symbol neuron"], Float[Tensor, "neuron class"]]:
    """Return the task's group, the input embedding and the readout.

    Args:
        subject: names the roles.
        model: whose weights are read; by default the subject's own.

    Raises:
        MissingNeedError: there is no group, no frequency in it, or one of the two roles is missing.
        RoleError: a role is read in another shape than (2, symbols, neurons) or (neurons, classes).
    """
    group, roles = subject.task.group, subject.roles
    if group is None or roles.input_embedding is None or roles.readout is None:
        raise MissingNeedError("filtration needs a group and the roles input_embedding and readout")
    if group.n_frequencies == 0:
        raise MissingNeedError("the task's group has one element, and so no frequency")
    model = subject.model if model is None else model
    embedding, readout = roles.input_embedding.read(model), roles.readout.read(model)
    symbols, classes = subject.task.symbols, subject.task.n_classes
    if embedding.ndim != 3 or embedding.shape[:2] != (2, symbols):
        raise RoleError(f"input_embedding must read as (2, {symbols}, neurons), and reads as {tuple(embedding.shape)}")
    if tuple(readout.shape) != (embedding.shape[2], classes):
        raise RoleError(f"readout must read as ({embedding.shape[2]}, {classes}), and reads as {tuple(readout.shape)}")
    return group, embedding, readout
