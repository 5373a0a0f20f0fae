"""Whether a direct path leads from a sender to a receiver past everything that is frozen."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

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
    """Return the senders of which no receiver takes notice, in one of the networks, while all else is frozen.

    A sender has a way if there is a path of derivatives from what it sends to a receiver, or, where the model records
    none, if other values there change what a receiver holds. Where only some positions send, what the derivatives are
    there counts too: the path may be one from other positions.

    Args:
        runs: the networks.
        senders: points, and what of one example's values each of their units sends.
        receivers: points; none for the logits.
        frozen: points that are held as they are; and so are all senders but the one.

    Returns:
        for each such sender the held points that would have passed on what it sends: empty where nothing would.
    """
    found: dict[str, tuple[str, ...]] = {}
    for subject, ids in {
        id(s): (s, ids) for s, ids in ((runs.into, runs.ids), (runs.source, runs.source_ids))
    }.values():
        way = _Way(subject, ids[:_EXAMPLES], senders, frozen)
        for sender in way.unnoticed(receivers, way.held):
            if sender in way.unnoticed(receivers, [sender]):
                found[sender] = ()
                continue
            between = [p for p in way.held if p != sender and sender not in way.unnoticed([p], way.held)]
            found.setdefault(sender, tuple(between))
    return found


def why_shut(sender: str, end: str, between: Sequence[str]) -> str:
    """Return what is said of a sender without a way.

    Args:
        sender: what it is called, with its positions where it does not send from all.
        end: the receivers.
        between: the held points that would have passed on what it sends.
    """
    if not between:
        return f"no path leads from {sender!r} to {end}: what it sends changes nothing there, frozen or not"
    points = ", ".join(between)
    return (
        f"no direct path leads from {sender!r} to {end}: what goes on from it is frozen between them ({points}); "
        "name as senders what writes into the stream, or leave the points between out of frozen="
    )


class _Way:
    """A network, on a few examples, in which points are held at what they are anyway."""

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
        """Return the senders among the held points that no receiver depends on while they all are held."""
        with evaluating(self._subject.model), torch.inference_mode(False):
            slopes: dict[str, Tensor | None] | None = None
            # A model that leaves torch and comes back may refuse to be differentiated; it is tried with other values.
            with torch.enable_grad(), contextlib.suppress(RuntimeError):
                slopes = self._slopes(receivers, held)
            with torch.no_grad():
                return [
                    point for point in held if point in self._sent and not self._way(point, receivers, held, slopes)
                ]

    def _way(
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
        """Return the derivative of all that the receivers hold by each sender; None where there is no path."""
        real = [point for point in held if point in self._sent and self._own[point].is_floating_point()]
        leaves = {point: self._own[point].clone().requires_grad_() for point in real}
        told = [value.sum() for value in self._run(receivers, held, leaves) if value.requires_grad]
        if not told:
            # No path at all, or one that is not recorded.
            return None
        slopes = torch.autograd.grad(torch.stack(told).sum(), list(leaves.values()), allow_unused=True)
        return dict(zip(leaves, slopes, strict=True))

    def _run(self, receivers: Sequence[str], held: Sequence[str], other: Mapping[str, Tensor]) -> list[Tensor]:
        """Return what the receivers would hold, each point held at its own value or another one."""
        model, told = self._subject.model, {}
        inputs = self._subject.task.batch(self._ids)[0].to(device_of(model))
        with contextlib.ExitStack() as stack:
            # Recorded before they are held, where they are.
            for point in receivers:
                stack.enter_context(recorded(model, point, told))
            for point in held:
                stack.enter_context(replaced(model, point, other.get(point, self._own[point])))
            returned = model(inputs)
        return [told[point] for point in receivers] if receivers else [self._subject.roles.output.read(returned)]
