"""Linear readout of the last layer of neurons: interventions on these neurons then need no forward pass."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.core.roles import read_role
from mechmem.core.subject import Subject
from mechmem.errors import NotLinearError
from mechmem.models.reading.activations import activations
from mechmem.models.reading.forward import raw_logits
from mechmem.models.reading.weights import neuron_point

TOLERANCE = 1e-4
"""Largest difference between the logits and hidden · weights + bias that float32 rounding explains, as a share of the
largest logit."""

ROUNDINGS = 2
"""The same for half precision, in machine epsilons: the product and the sum with the bias are rounded once each."""


@dataclasses.dataclass(frozen=True, eq=False)
class LinearReadout:
    """logits = hidden · weights + bias, checked on every example.

    Attributes:
        point: the hook point of the neurons.
        hidden: activations on every id of the task, in the order of `task.ids`. Shape (example, neuron).
        weights: the readout. Shape (neuron, class).
        logits: the network's own logits on every id. Shape (example, class).
    """

    point: str
    hidden: Float[Tensor, "example neuron"]
    weights: Float[Tensor, "neuron class"]
    logits: Float[Tensor, "example class"]


def linear_readout(subject: Subject, point: str = "") -> LinearReadout:
    """Read the last layer of neurons and check that the logits are linear in it.

    Args:
        subject: a subject with the roles `hidden` and `readout`.
        point: a hook point of the role `hidden`; by default the last.

    Raises:
        NotLinearError: a role is missing, or the logits are not hidden · weights + bias at this point.
        UnknownNameError: the role `hidden` holds no such point.
        RoleError: a role does not fit the model.
    """
    point = neuron_point(subject, point)
    if not point or subject.roles.readout is None:
        raise NotLinearError("the algebraic path needs the roles hidden and readout")
    return subject.memo(f"linear_readout {point}", lambda: _checked(subject, point))


def _checked(subject: Subject, point: str) -> LinearReadout:
    roles, task = subject.roles, subject.task
    assert roles.readout is not None
    stored = roles.readout.read(subject.model).cpu()
    held = activations(subject, point, ids=task.ids)[point]
    logits = raw_logits(subject)
    exact = torch.promote_types(torch.promote_types(stored.dtype, held.dtype), torch.float32)
    hidden, weights = held.to(exact), stored.to(exact)
    if hidden.ndim != 2 or tuple(weights.shape) != (hidden.shape[1], logits.shape[1]):
        raise NotLinearError(
            f"{point!r} of shape {tuple(hidden.shape)} times a readout of shape {tuple(weights.shape)} does not give "
            f"logits of shape {tuple(logits.shape)}"
        )
    rebuilt = hidden @ weights
    if roles.bias is not None:
        rebuilt = rebuilt + read_role(roles, "bias", subject.model, logits.shape[1]).cpu()
    gap, scale = float((rebuilt - logits).abs().max()), float(logits.abs().max())
    rounding = max(torch.finfo(values.dtype).eps for values in (stored, held))
    tolerance = max(TOLERANCE, ROUNDINGS * rounding)
    if not gap <= tolerance * scale:
        raise NotLinearError(
            f"the logits are not linear in {point!r}: they differ from hidden · weights + bias by up to {gap:.3g}, "
            f"where the largest is {scale:.3g}"
        )
    return LinearReadout(point, hidden, weights, logits)
