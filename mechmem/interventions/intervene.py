"""Many interventions on a network: the logits under each, and the four accuracies and losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import check, checked_but
from mechmem.core.config import check_choice, check_number, check_whole
from mechmem.core.ids import check_distinct
from mechmem.core.roles import Roles
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Ids, Task
from mechmem.errors import ConfigError
from mechmem.interventions.batched import Batched, Method
from mechmem.interventions.edits import Edit, Together, points_of, spelt_out
from mechmem.interventions.layouts import Layout
from mechmem.interventions.result import Interventions
from mechmem.interventions.runs import Replacement, edited_logits, layouts_at
from mechmem.interventions.units import Site, site_table
from mechmem.interventions.values import Values, replacement_values
from mechmem.math.logits import correct_of
from mechmem.models.reading.forward import logits_of
from mechmem.tasks.config import SPLITS
from mechmem.tasks.splits import split_labels


@checked_but("edits")
def intervene(
    subject: nn.Module | Subject,
    edits: Edit | Sequence[Together],
    task: Task | None = None,
    *,
    roles: Roles | None = None,
    ids: Ids | None = None,
    logits: bool = True,
    method: Method = "vmap",
    limit_mb: float | None = None,
    seed: int = 0,
) -> Interventions:
    """Run a network under many interventions, one at a time in effect but many per forward pass.

    The edits of one point go through the network together, by `torch.func.vmap` over the replaced elements: the part of
    the network before the point is computed once for all of them, the part after it once for each. A network for which
    this fails (it branches on its activations, or changes a tensor in place) is run edit by edit, and the note says
    why.

        mm.intervene(network, mm.Edit("hook_hidden", neurons="each"))
        mm.intervene(transformer, mm.Edit("blocks.*.attn.hook_z", "mean", heads="each", positions=-1))
        mm.intervene(network, [mm.Edit("hook_hidden", neurons=[3, 5]), mm.Edit("hook_pre", 0.5)])

    Args:
        subject: a subject, or a network with `HookPoint` submodules.
        edits: an edit, or several; a tuple of edits is one intervention, made in the same pass, in their order.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own.
        ids: the examples; by default `task.train_ids`, then `task.test_ids`.
        logits: whether to keep the logits: edits × examples × classes numbers. Accuracies and losses are always kept.
        method: "vmap", or "loop" for one edit after the other.
        limit_mb: memory for the activations of a batch in megabytes, measured on the first edit; by default 16 on the
            CPU, where a batch larger than the cache is no faster, and 512 elsewhere.
        seed: seed of the resampling.

    Raises:
        ConfigError: no edit, units that a point does not have or may not have, or a setting out of range.
        UnknownNameError: there is no such point, id or method.
        ActivationError: a point did not fire, or has another shape than the given values.
        DiscardedEditError: the logits do not depend on a point. Points matched by a pattern are left out instead, and
            the note lists them.
    """
    if isinstance(edits, Task | Subject | nn.Module):
        raise ConfigError("a call is intervene(network, edits, task): the edits come second")
    check("edits", edits, Edit | Sequence[Together], "intervene")
    subject = subject_of(subject, task, roles)
    check_choice("method of interventions", method, get_args(Method))
    if limit_mb is not None:
        check_number("limit_mb", limit_mb, above=0)
    check_whole("seed", seed, 0)
    task = subject.task
    ids = torch.cat([task.train_ids, task.test_ids]) if ids is None else check_distinct(task, ids)
    labels = split_labels(task, ids)
    found, left_out = layouts_at(subject, points_of(edits))
    wanted = spelt_out(edits, found)
    layouts = {layout.point: layout for each in found.values() for layout in each}
    unedited = logits_of(subject.model, task, ids, subject.roles.output)
    kept = torch.empty(len(wanted), *unedited.shape, dtype=unedited.dtype) if logits else None
    sums = torch.zeros(2, len(wanted), len(SPLITS), dtype=torch.float64)
    notes = {left_out: None}
    for members, places in _grouped(subject, [singles for _, singles in wanted], layouts, ids, seed):
        how = Batched(method, limit_mb)
        for chosen, block, edited in edited_logits(subject, ids, places, how):
            edit = members[chosen]
            sums[:, edit] += _outcomes(edited, labels[:, block])
            if kept is not None:
                kept[edit, block] = edited.to(kept.dtype)
        notes[how.note] = None
    n = (labels >= 0).sum(1)
    accuracy, loss = sums / n
    before = _outcomes(rearrange(unedited, "example classes -> 1 example classes"), labels).squeeze(1) / n
    return Interventions(
        tuple(name for name, _ in wanted),
        site_table([_site(singles, layouts) for _, singles in wanted]),
        ids.long(),
        n,
        accuracy,
        loss,
        unedited_accuracy=before[0],
        unedited_loss=before[1],
        logits=kept,
        unedited=unedited,
        note="; ".join(filter(None, notes)),
    )


def _grouped(
    subject: Subject,
    wanted: list[tuple[Edit, ...]],
    layouts: dict[str, Layout],
    ids: Int[Tensor, " example"],
    seed: int,
) -> list[tuple[Int[Tensor, " member"], tuple[Replacement, ...]]]:
    """Group the interventions that put the same values at the same points: they differ only in their masks."""
    groups: dict[tuple[tuple[str, object], ...], list[int]] = {}
    for number, singles in enumerate(wanted):
        groups.setdefault(tuple(_key(edit) for edit in singles), []).append(number)
    values: dict[tuple[str, object], Values] = {}
    found = []
    for keys, members in groups.items():
        places = []
        for place, key in enumerate(keys):
            edits = [wanted[member][place] for member in members]
            point = edits[0].point
            if key not in values:
                values[key] = replacement_values(subject, layouts[point], edits[0].value, ids, seed)
            masks = torch.broadcast_tensors(*(edit.mask(layouts[point]) for edit in edits))
            places.append(Replacement(point, values[key], torch.stack(masks)))
        found.append((torch.tensor(members), tuple(places)))
    return found


def _key(edit: Edit) -> tuple[str, object]:
    return edit.point, id(edit.value) if isinstance(edit.value, Tensor | np.ndarray) else edit.value


def _site(singles: tuple[Edit, ...], layouts: dict[str, Layout]) -> Site:
    """Return the site of an intervention; several edits have no unit."""
    if len(singles) == 1:
        return singles[0].site(layouts[singles[0].point])
    points = {edit.point for edit in singles}
    return Site(points.pop() if len(points) == 1 else "")


def _outcomes(
    logits: Float[Tensor, "edit example class"], labels: Int[Tensor, "split example"]
) -> Float[Tensor, "outcome edit split"]:
    """Return the number of correct predictions and the summed cross-entropy in nats of each edit on each split.

    Both are NaN for a split with a logit that is not finite.
    """
    known = labels >= 0
    right = correct_of(rearrange(logits, "edit example classes -> edit 1 example classes"), labels)
    right = torch.where(known, right, 0).sum(-1)
    wanted = repeat(labels.clamp(min=0), "split example -> edit example split", edit=len(logits))
    nats = -logits.log_softmax(-1).gather(-1, wanted).double()
    # An example that is not in a split may have logits that are not finite.
    nats = nats.masked_fill(~rearrange(known, "split example -> example split"), 0)
    return torch.stack([right, torch.einsum("nes,se->ns", nats, known.double())])
