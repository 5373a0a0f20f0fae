"""Writers of a network's residual stream, found by their TransformerLens names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import torch
from einops import repeat
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.models.hooks.points import HookPoints, hook_points

Stream = Float[Tensor, "example d_model"]


@dataclasses.dataclass(frozen=True, eq=False)
class Writer:
    """One part of a network that adds to the residual stream at the output position, or several with one hook point.

    Attributes:
        names: name of each part: one, or one per attention head.
        kind: "embedding", "position", "heads", "attention" (all heads and their bias in one), "neurons", "mlp" (neurons
            and their bias in one) or "bias".
        point: the hook point whose value is written; "" for a bias, which is the same on every example.
        weights: weights from that value to the stream: (head, d_head, d_model) for heads, (neuron, d_model) for
            neurons; None if the point holds the stream's own units; the bias itself (d_model) for a bias. On the CPU.
        path: dotted path of the weights in the model; "" without weights.
    """

    names: tuple[str, ...]
    kind: str
    point: str
    weights: Tensor | None
    path: str = ""

    def write(self, value: Shaped[Tensor, "example ..."]) -> Stream:
        """Return the sum of what the parts add to the stream.

        Args:
            value: the hook point's value at the output position; for a bias, any tensor with one row per example.
        """
        if self.kind == "heads":
            assert self.weights is not None
            return torch.einsum("ehd,hdm->em", value, self.weights)
        if self.kind == "bias":
            assert self.weights is not None
            return repeat(self.weights, "d_model -> example d_model", example=len(value))
        return value if self.weights is None else value @ self.weights

    def along(self, value: Shaped[Tensor, "example ..."], direction: Stream) -> Float[Tensor, "example part"]:
        """Return how far each part moves the stream along a direction per example (their inner products)."""
        if self.kind == "heads":
            assert self.weights is not None
            return torch.einsum("ehd,hdm,em->eh", value, self.weights, direction)
        return (self.write(value) * direction).sum(1, keepdim=True)

    def by_neuron(self, value: Float[Tensor, "example neuron"], direction: Stream) -> Float[Tensor, "example neuron"]:
        """Return how far each neuron moves the stream along a direction per example; for the kind "neurons" only."""
        assert self.kind == "neurons" and self.weights is not None
        return value * (direction @ self.weights.T)

    def double(self) -> Writer:
        """Return the same writer with weights in float64."""
        return dataclasses.replace(self, weights=None if self.weights is None else self.weights.double())


def residual_writers(subject: Subject) -> tuple[Writer, ...]:
    """Return the writers of the residual stream, whose sum is the stream before `ln_final`.

    They are found by TransformerLens names: `hook_embed`, `hook_pos_embed`, and for every block L `attn.hook_z` with
    `attn.W_O` and `attn.b_O`, `mlp.hook_post` with `mlp.W_out` and `mlp.b_out`; if the weights have other names,
    `hook_attn_out` and `hook_mlp_out` instead. The caller has to check that the sum is complete.

    Raises:
        MissingNeedError: the network has no residual stream, or its points have other names.
    """
    points = hook_points(subject.model)
    if not subject.roles.residual or "hook_embed" not in points:
        lacking = "no role 'residual'" if not subject.roles.residual else "no point 'hook_embed'"
        raise MissingNeedError(
            f"this needs a residual stream whose writers have the names of TransformerLens; {subject.name!r} has "
            f"{lacking}"
        )
    found = [Writer(("embedding",), "embedding", "hook_embed", None)]
    if "hook_pos_embed" in points:
        found.append(Writer(("position",), "position", "hook_pos_embed", None))
    numbers = {int(match[1]) for name in points if (match := re.match(r"blocks\.(\d+)\.", name))}
    for number in sorted(numbers):
        found += _of_block(subject.model, points, number)
    return tuple(found)


def _of_block(model: nn.Module, points: HookPoints, number: int) -> list[Writer]:
    block, found = f"blocks.{number}", []
    heads = tensor_at(model, f"{block}.attn.W_O")
    if f"{block}.attn.hook_z" in points and heads is not None and heads.ndim == 3:
        names = tuple(f"head {number}.{head}" for head in range(len(heads)))
        found.append(Writer(names, "heads", f"{block}.attn.hook_z", heads, f"{block}.attn.W_O"))
        found += _bias(model, f"{block}.attn.b_O", f"attention bias {number}")
    elif f"{block}.hook_attn_out" in points:
        found.append(Writer((f"attention {number}",), "attention", f"{block}.hook_attn_out", None))
    neurons = tensor_at(model, f"{block}.mlp.W_out")
    if f"{block}.mlp.hook_post" in points and neurons is not None and neurons.ndim == 2:
        found.append(Writer((f"MLP {number}",), "neurons", f"{block}.mlp.hook_post", neurons, f"{block}.mlp.W_out"))
        found += _bias(model, f"{block}.mlp.b_out", f"MLP bias {number}")
    elif f"{block}.hook_mlp_out" in points:
        found.append(Writer((f"MLP {number}",), "mlp", f"{block}.hook_mlp_out", None))
    return found


def _bias(model: nn.Module, path: str, name: str) -> list[Writer]:
    bias = tensor_at(model, path)
    return [] if bias is None else [Writer((name,), "bias", "", bias, path)]


def at_answer(subject: Subject, value: Shaped[Tensor, "example ..."], axes: int) -> Shaped[Tensor, "example ..."]:
    """Return a hook point's value at the output position; a value without a position axis is returned unchanged.

    Args:
        subject: its role `output` names the position; by default the last.
        value: the hook point's value.
        axes: number of axes of a value without positions.

    Raises:
        MissingNeedError: the task's examples are answered at different positions.
    """
    if value.ndim == axes:
        return value
    if subject.task.answer_positions(subject.task.ids[:1]) is not None:
        raise MissingNeedError("this reads one output position, and the examples of a sequence task have several")
    return value[:, -1 if subject.roles.output.position is None else subject.roles.output.position]


def at_answers(
    task: Task, value: Shaped[Tensor, "example ..."], ids: Int[Tensor, " example"]
) -> Shaped[Tensor, "example ..."]:
    """Return a hook point's value at each example's own output position, if the task's examples differ in it.

    Args:
        task: the task.
        value: the hook point's value; one without a position axis, and that of any other task, is returned unchanged.
        ids: the examples.
    """
    positions = task.answer_positions(ids)
    return value if positions is None or value.ndim < 3 else value[torch.arange(len(value)), positions]


def tensor_at(model: nn.Module, path: str) -> Tensor | None:
    """Return the tensor at a dotted path of attributes, detached and on the CPU, or None if there is none."""
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    return found.detach().cpu() if isinstance(found, Tensor) else None


def writer_values(
    subject: Subject, writers: tuple[Writer, ...], held: Mapping[str, Tensor]
) -> list[Shaped[Tensor, "example ..."]]:
    """Return each writer's hook point value at the output position, in float64.

    Args:
        subject: its role `output` names the position.
        writers: the writers.
        held: activations by name, with every point of the writers; at least one entry.
    """
    first = next(iter(held.values()))
    rows = first.new_zeros(len(first), 0)
    return [
        rows
        if not writer.point
        else at_answer(subject, held[writer.point], 3 if writer.kind == "heads" else 2).double()
        for writer in writers
    ]
