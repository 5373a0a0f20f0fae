"""Gradients of logits with respect to the embeddings of the two operands."""

from __future__ import annotations

import dataclasses
import re

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.core.roles import Role, read_role
from mechmem.core.subject import Subject
from mechmem.errors import ActivationError, MissingNeedError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.hooking import hooked
from mechmem.models.hooks.running import block_rows, device_of, differentiating, evaluating, full_precision
from mechmem.models.reading.separate import check_subject

ONE_HOT = "one-hot inputs"
"""Space of the gradients if each operand has its own input vector per symbol."""

Both = tuple[Float[Tensor, "example dim"], Float[Tensor, "example dim"]]


@dataclasses.dataclass(frozen=True, eq=False)
class OperandGradients:
    """Gradient of one logit per example with respect to each operand.

    Attributes:
        space: the point that holds the operands' embeddings, or `ONE_HOT`.
        first: gradient with respect to the first operand, on the CPU. Shape (example, dim).
        second: gradient with respect to the second operand. Shape (example, dim).
    """

    space: str
    first: Float[Tensor, "example dim"]
    second: Float[Tensor, "example dim"]


@differentiating()
def operand_gradients(
    subject: Subject,
    ids: Int[Tensor, " example"],
    classes: Int[Tensor, " example"],
    point: str = "",
    positions: tuple[int, int] = (0, 1),
) -> OperandGradients:
    """Return the gradient of one logit per example with respect to the embeddings of its two operands.

    A network with a residual stream holds the embeddings at two positions of its first point. One without has an input
    vector per operand and symbol, u_s and v_s, and adds those of the example; its embeddings are the one-hot inputs,
    and the gradients' entries are ⟨u_s, g⟩ and ⟨v_s, g⟩, where g is the gradient with respect to the added vectors.

    Args:
        subject: the network.
        ids: examples.
        classes: the class whose logit is differentiated, for each example.
        point: a hook point that holds (example, position, dim); by default the first of the role `residual`.
        positions: positions of the two operands at that point.

    Raises:
        MissingNeedError: no point holds the embeddings separately and there is no input embedding, or both operands
            share one; or the logits do not depend differentiably on them.
        UnknownNameError: there is no such point.
        ActivationError: the point holds another shape, or does not fire.
        RoleError: the input embedding does not read as (2, symbols, neurons).
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
    """
    check_subject(subject)
    roles = subject.roles
    place = point or (roles.residual[0] if roles.residual else "")
    if place:
        return OperandGradients(place, *_at_point(subject, ids, classes, place, positions))
    if roles.input_embedding is None:
        raise MissingNeedError(
            "no point holds the operands' embeddings separately, and there is no role input_embedding"
        )
    if _shared(roles.input_embedding):
        raise MissingNeedError("both operands share one input embedding: name a point that holds the two separately")
    return OperandGradients(ONE_HOT, *_at_inputs(subject, ids, classes, roles.input_embedding))


def _shared(role: Role) -> bool:
    """Return whether the stored parameter lacks the operands' axis."""
    stored, named = role.pattern.split("->")
    return named.split()[0] not in re.findall(r"\w+", stored)


def _logits(subject: Subject, model: torch.nn.Module, ids: Tensor, classes: Tensor) -> Float[Tensor, " example"]:
    inputs = subject.task.batch(ids)[0].to(device_of(model))
    logits = subject.roles.output.read(model(inputs))
    return logits[torch.arange(len(ids), device=logits.device), classes.to(logits.device)]


def _differentiable(total: Tensor, source: str) -> Tensor:
    if not total.requires_grad:
        raise MissingNeedError(f"no gradient reaches {source!r} from the logits")
    return total


def _at_point(subject: Subject, ids: Tensor, classes: Tensor, point: str, positions: tuple[int, int]) -> Both:
    model, found = subject.model, []
    for block in blocks(len(ids), block_rows(model)):
        leaves: list[Tensor] = []

        def cut(held: Tensor, leaves: list[Tensor] = leaves) -> Tensor:
            if held.ndim != 3 or not all(-held.shape[1] <= place < held.shape[1] for place in positions):
                raise ActivationError(
                    f"{point!r} has shape {tuple(held.shape)}, not (example, position, dimension) with the positions "
                    f"{positions}"
                )
            leaves.append(held.detach().requires_grad_())
            return leaves[0]

        with evaluating(model), hooked(model, point, cut):
            total = _differentiable(_logits(subject, model, ids[block], classes[block]).sum(), point)
        (gradient,) = torch.autograd.grad(total, leaves)
        found.append(full_precision(gradient[:, list(positions)].cpu()))
    first, second = torch.cat(found).unbind(1)
    return first, second


def _at_inputs(subject: Subject, ids: Tensor, classes: Tensor, role: Role) -> Both:
    """Read the gradients from those of the input vectors, in batches in which no operand occurs twice."""
    task, model = subject.task, subject.copy_model()
    vectors = full_precision(read_role(subject.roles, "input_embedding", model, 2, task.symbols, "neurons").cpu())
    assert task.operands is not None
    pairs = task.operands[task.rows(ids)]
    named = dict(model.named_parameters(remove_duplicate=False))
    stored = [named[name].requires_grad_() for name in role.names]
    both = torch.empty(2, len(ids), vectors.shape[1], dtype=vectors.dtype)
    batch = _batches(pairs)
    with evaluating(model):
        for number in range(int(batch.max()) + 1 if len(ids) else 0):
            rows = (batch == number).nonzero().squeeze(1)
            total = _differentiable(_logits(subject, model, ids[rows], classes[rows]).sum(), str(role.parameter))
            gradients = torch.autograd.grad(total, stored)
            added = full_precision(role.arrange([each[: role.first] for each in gradients]).cpu())
            for operand in (0, 1):
                both[operand, rows] = added[operand, pairs[rows, operand]] @ vectors[operand].T
    return both[0], both[1]


def _batches(pairs: Int[Tensor, "example 2"]) -> Int[Tensor, " example"]:
    """Return each example's batch number, chosen so that no first or second operand occurs twice in a batch."""
    taken: tuple[dict[int, set[int]], dict[int, set[int]]] = ({}, {})
    number = []
    for a, b in pairs.tolist():
        used = taken[0].setdefault(a, set()) | taken[1].setdefault(b, set())
        free = next(n for n in range(len(used) + 1) if n not in used)
        taken[0][a].add(free)
        taken[1][b].add(free)
        number.append(free)
    return torch.tensor(number, dtype=torch.long)
