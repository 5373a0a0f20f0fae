"""Check that a direct path leads from a sender to a receiver past everything frozen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechmem.core.inputs import run_on
from mechmem.core.subject import Subject
from mechmem.interventions.patching.pairs import Runs
from mechmem.interventions.reach import other_values
from mechmem.interventions.values import held_at
from mechmem.models.hooks.hooking import recorded, replaced
from mechmem.models.hooks.running import device_of, evaluating

_EXAMPLES = 4


def without_way(
    runs: Runs, senders: Mapping[str, Bool[Tensor, "unit ..."]], receivers: Sequence[str], frozen: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the senders on which no receiver depends, in one of the networks, while everything else is frozen.

    A sender has a path if there is a path of derivatives from it to a receiver, or, if the model records none, if other
    values there change a receiver's value. If only some positions send, the derivatives there must not all be zero,
    since the path may start at other positions.

    Args:
        runs: the networks.
        senders: points, and the elements of one example's value that each of their units sends.
        receivers: points; none for the logits.
        frozen: points frozen at their own values; all other senders are frozen too.

    Returns:
        for each sender without a path the frozen points that block it; empty if no path exists at all.
    """
    found: dict[str, tuple[str, ...]] = {}
    for subject, ids in {
        id(s): (s, ids) for s, ids in ((runs.into, runs.ids), (runs.source, runs.source_ids))
    }.values():
        network = _FrozenNetwork(subject, ids[:_EXAMPLES], senders, frozen)
        for sender in network.unnoticed(receivers, network.held):
            if sender in network.unnoticed(receivers, [sender]):
                found[sender] = ()
                continue
            between = [p for p in network.held if p != sender and sender not in network.unnoticed([p], network.held)]
            found.setdefault(sender, tuple(between))
    return found


def why_shut(sender: str, end: str, between: Sequence[str]) -> str:
    """Return the message about a sender without a path.

    Args:
        sender: its name, with its positions if it does not send from all.
        end: the receivers.
        between: the frozen points that block the path.
    """
    if not between:
        return f"no path leads from {sender!r} to {end}: it changes nothing there, frozen or not"
    points = ", ".join(between)
    return (
        f"no direct path leads from {sender!r} to {end}: every path is frozen between them ({points}); "
        "name as senders the points that write into the stream, or leave the points between out of frozen="
    )


class _FrozenNetwork:
    """A network on a few examples, with points frozen at their own values."""

    def __init__(
        self,
        subject: Subject,
        ids: Int[Tensor, " example"],
        senders: Mapping[str, Bool[Tensor, "unit ..."]],
        frozen: Sequence[str],
    ):
        self._subject, self._ids = subject, ids
        self.held = [*senders, *(point for point in frozen if point not in senders)]
        self._own = held_at(subject, self.held, ids)
        self._sent = {point: mask.any(0).to(self._own[point].device) for point, mask in senders.items()}

    def unnoticed(self, receivers: Sequence[str], held: Sequence[str]) -> list[str]:
        """Return the senders among the frozen points on which no receiver depends."""
        with evaluating(self._subject.model), torch.inference_mode(False):
            slopes: dict[str, Tensor | None] | None = None
            # A model that leaves torch and returns may refuse differentiation; it is then tried with other values.
            with torch.enable_grad(), contextlib.suppress(RuntimeError):
                slopes = self._slopes(receivers, held)
            with torch.no_grad():
                return [
                    point
                    for point in held
                    if point in self._sent and not self._has_path(point, receivers, held, slopes)
                ]

    def _has_path(
        self, sender: str, receivers: Sequence[str], held: Sequence[str], slopes: dict[str, Tensor | None] | None
    ) -> bool:
        sent = self._sent[sender]
        if slopes is not None and sender in slopes:
            slope = slopes[sender]
            if slope is None or bool(sent.all()) or bool(slope[sent.expand(slope.shape)].any()):
                return slope is not None
        own = self._own[sender]
        changed = self._run(receivers, held, {sender: torch.where(sent, other_values(own), own)})
        plain = self._run(receivers, held, {})
        return not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(changed, plain, strict=True))

    def _slopes(self, receivers: Sequence[str], held: Sequence[str]) -> dict[str, Tensor | None] | None:
        """Return the derivative of the receivers' summed values with respect to each sender; None without a path."""
        real = [point for point in held if point in self._sent and self._own[point].is_floating_point()]
        leaves = {point: self._own[point].clone().requires_grad_() for point in real}
        received = [value.sum() for value in self._run(receivers, held, leaves) if value.requires_grad]
        if not received:
            # There is no path, or it is not recorded.
            return None
        slopes = torch.autograd.grad(torch.stack(received).sum(), list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, slopes, strict=True))

    def _run(self, receivers: Sequence[str], held: Sequence[str], other: Mapping[str, Tensor]) -> list[Tensor]:
        """Return the receivers' values, with each point frozen at its own value or the one in `other`."""
        model, received = self._subject.model, {}
        inputs = self._subject.task.batch(self._ids)[0].to(device_of(model))
        with contextlib.ExitStack() as stack:
            # Recorded before frozen receivers are replaced.
            for point in receivers:
                stack.enter_context(recorded(model, point, received))
            for point in held:
                stack.enter_context(replaced(model, point, other.get(point, self._own[point])))
            returned = run_on(model, inputs)
        return [received[point] for point in receivers] if receivers else [self._subject.roles.output.read(returned)]
