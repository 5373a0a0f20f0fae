"""Path patching: the direct effect of one part of a network on another, with all other parts frozen."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.inputs import run_on
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError, DiscardedEditError, MissingNeedError
from mechmem.interventions.batched import Batched, Edited, Forward, Masks
from mechmem.interventions.patching import units as patch_units
from mechmem.interventions.patching.effects import Direction, Metric, PatchEffects, both_ways
from mechmem.interventions.patching.pairs import Runs, check_donor, paired
from mechmem.interventions.patching.paths import why_shut, without_way
from mechmem.interventions.patching.units import PatchUnits
from mechmem.interventions.units import Indices, Units, label, site_table
from mechmem.interventions.values import held_at
from mechmem.models.hooks.hooking import firing, recorded, replaced
from mechmem.models.hooks.running import block_rows, device_of, evaluating

Sent = Literal["point", "head", "neuron", "channel", "position"]


@checked
def path_patch(
    subject: Subject | nn.Module,
    donor: Subject | nn.Module | None = None,
    *,
    senders: str | Sequence[str],
    receivers: str | Sequence[str] | None = None,
    frozen: str | Sequence[str] | None = None,
    task: Task | None = None,
    roles: Roles | None = None,
    ids: Ids | None = None,
    donor_ids: Ids | None = None,
    units: Sent = "point",
    positions: Indices | None = None,
    direction: Direction = "both",
    metric: Metric = "margin",
    seed: int = 0,
) -> PatchEffects:
    """Measure how much behaviour passes from senders to receivers along the direct path alone, unit by unit.

    Passes are paired as in `mm.patch`. A first patched pass gives the sender its value in the donor's pass and freezes
    everything else that writes into the residual stream at its own value, so that the change reaches a receiver only
    along the stream; the value of each receiver is recorded. A second pass, with nothing frozen, patches the recorded
    values into the receivers. With the logits as receiver there is only the first pass.

    Freezing a hook point blocks every path through it: freeze the output of a head or an MLP, or a point that
    determines it (`hook_z`, `hook_post`). What is not frozen, such as the scale of a layer norm, follows the change. A
    receiver may be frozen too: the recorded value is the one before it is replaced.

        point = "blocks.0.attn.hook_z"
        mm.path_patch(transformer, senders=point, units="head", receivers="blocks.0.mlp.hook_pre").plot()

    Args:
        subject: the network to patch: a subject, or a model with its `task`.
        donor: another network with the same inputs; None for pairs of examples in one network.
        senders: hook points, or patterns, that write into the stream.
        receivers: hook points, or patterns, all patched in the same pass; None for the logits.
        frozen: hook points, or patterns, of everything else that writes into the stream; by default those of the roles
            `heads` and `hidden`. While one sender sends, the other senders are frozen.
        task: the network's task, if it is a bare model.
        roles: its roles, if it has no attribute of that name.
        ids: the examples to patch; by default as in `mm.patch`.
        donor_ids: the donor's example for each of `ids`, in one network; by default as in `mm.patch`.
        units: units of a sender that are sent separately: the whole "point", each "head", "neuron", "channel" or
            "position".
        positions: positions from which a sender sends, one or several; by default all.
        direction: "denoising", "noising" or "both".
        metric: "margin" or "probability".
        seed: seed of pairs and bootstrap.

    Raises:
        ConfigError: ids that do not pair, a point without such units, a point that is sender and receiver, or a seed
            below 0.
        MissingNeedError: the writers are not known, or the true labels or operands that pairs need.
        UnknownNameError: there is no such point, or it exists in one network only; or an option is misspelt.
        ActivationError: a point has different shapes in the two networks, or did not fire.
        DiscardedEditError: the logits do not depend on a point; or no direct path leads from a sender to a receiver,
            because it is blocked by frozen points (listed in the message) or because there is none. Such senders are
            left out if a pattern matches them, and the note lists them.

    Source: Wang et al. 2022, arXiv 2211.00593; Goldowsky-Dill et al. 2023, arXiv 2304.05969.
    """
    for setting, value, allowed in (("unit of path patching", units, Sent), ("direction", direction, Direction)):
        check_choice(setting, value, get_args(allowed))
    check_choice("metric", metric, get_args(Metric))
    check_whole("seed", seed, 0)
    check_donor(donor)
    subject = subject_of(subject, task, roles)
    pairing = paired(subject, donor, ids, donor_ids, seed)
    path, left_out = _path(pairing.runs, senders, receivers, frozen, units, positions)

    def patching(runs: Runs, before: Tensor, notes: list[str]) -> Iterator[Edited]:
        how = Batched()
        yield from _patched(runs, path, how)
        notes.append(how.note)

    end = path.end
    names = tuple(f"{name} → {end}" for each in path.senders for name in each.names)
    sides, note = both_ways(pairing, patching, len(names), direction, metric, seed)
    note = "; ".join(
        filter(None, (left_out, note, f"frozen: {', '.join(path.frozen)}" if path.frozen else "nothing is frozen"))
    )
    sites = site_table([site for each in path.senders for site in each.sites])
    return PatchEffects("path", names, sites, sides, metric, len(pairing.runs.ids), note)


@dataclasses.dataclass(frozen=True, eq=False)
class _Path:
    """Senders with their units, receivers (none for the logits), and the points frozen besides the senders."""

    senders: tuple[PatchUnits, ...]
    receivers: tuple[str, ...]
    frozen: tuple[str, ...]

    @property
    def end(self) -> str:
        """Name of the receivers."""
        return " + ".join(self.receivers) or "logits"

    def masks(self) -> tuple[Bool[Tensor, "unit ..."], ...]:
        """Return the elements that each unit replaces at each sender; a unit belongs to one sender."""
        total, start, found = sum(len(each.names) for each in self.senders), 0, []
        for each in self.senders:
            mask = torch.zeros(total, *each.masks.shape[1:], dtype=torch.bool)
            mask[start : start + len(each.names)] = each.masks
            found.append(mask)
            start += len(each.names)
        return tuple(found)


def _path(
    runs: Runs,
    senders: str | Sequence[str],
    receivers: str | Sequence[str] | None,
    frozen: str | Sequence[str] | None,
    units: Sent,
    positions: Indices | None,
) -> tuple[_Path, str]:
    """Find the points in both networks and check that there is a path; also return a note on senders left out."""
    if frozen is None:
        frozen = (*runs.into.roles.heads, *runs.into.roles.hidden)
        if not frozen:
            raise MissingNeedError("name the other writers of the stream with frozen=, or the roles heads and hidden")
    sent, ends, held = (
        patch_units.shared_points(runs, patterns)[0] if patterns else {}
        for patterns in map(_several, (senders, receivers, frozen))
    )
    if not sent:
        raise ConfigError("name at least one sender")
    both = sent.keys() & ends.keys()
    if both:
        raise ConfigError(f"{min(both)!r} is both a sender and a receiver")
    found = {
        point: patch_units.whole_point(layout, positions)
        if units == "point"
        else patch_units.single_units(Units(layout, units, positions))
        for point, layout in sent.items()
    }
    path = _Path(tuple(found.values()), tuple(ends), tuple(point for point in held if point not in sent))
    shut = without_way(runs, {point: each.masks for point, each in found.items()}, path.receivers, path.frozen)
    named = [point for point in shut if {point, firing(point)[0]} & set(_several(senders))]
    if named or len(shut) == len(found):
        first = (named or list(shut))[0]
        sender = label(first, {} if positions is None else {"position": positions})
        raise DiscardedEditError(why_shut(sender, path.end, shut[first]))
    kept = tuple(each for each in path.senders if each.point not in shut)
    # A sender without a path is frozen all the same.
    path = dataclasses.replace(path, senders=kept, frozen=(*path.frozen, *shut))
    return path, f"left out, because no direct path leads from them: {', '.join(shut)}" if shut else ""


def _several(points: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if points is None else (points,) if isinstance(points, str) else tuple(points)


def _patched(runs: Runs, path: _Path, how: Batched) -> Iterator[Edited]:
    """Yield the logits with each unit sent along the path in turn."""
    model, output = runs.into.model, runs.into.roles.output
    device = device_of(model)
    sending = [each.point for each in path.senders]

    def forward_on(block: slice) -> Forward:
        ids = runs.ids[block]
        inputs = runs.into.task.batch(ids)[0].to(device)
        own = held_at(runs.into, [*sending, *path.frozen], ids)
        given = {point: v.to(device) for point, v in held_at(runs.source, sending, runs.source_ids[block]).items()}

        def forward(masks: Masks) -> Tensor:
            received: dict[str, Tensor] = {}
            with contextlib.ExitStack() as stack:
                # Recorded before frozen receivers are replaced.
                for point in path.receivers:
                    stack.enter_context(recorded(model, point, received))
                for point, mask in zip(sending, masks, strict=True):
                    value = torch.where(mask, given[point].to(own[point]), own[point])
                    stack.enter_context(replaced(model, point, value))
                for point in path.frozen:
                    stack.enter_context(replaced(model, point, own[point]))
                returned = run_on(model, inputs)
            if not path.receivers:
                return output.read(returned)
            with contextlib.ExitStack() as stack:
                for point in path.receivers:
                    stack.enter_context(replaced(model, point, received[point]))
                returned = run_on(model, inputs)
            return output.read(returned)

        return forward

    masks = tuple(mask.to(device) for mask in path.masks())
    with torch.no_grad(), evaluating(model):
        yield from how.over(forward_on, len(runs.ids), block_rows(model), masks)
