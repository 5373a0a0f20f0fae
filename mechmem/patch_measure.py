"""Patching in one direction or both: the effects of its units, from the logits of their patched runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechmem.interventions.batched import Edited
from mechmem.models.forward import logits_of
from mechmem.patch_effects import Metric, PatchSide, effects_of, metric_of
from mechmem.patch_runs import Pairing, Runs
from mechmem.randomness import derive_seed
from mechmem.stats import bootstrap

Direction = Literal["both", "denoising", "noising"]
Patching = Callable[[Runs, Float[Tensor, "example class"], list[str]], Iterable[Edited]]
"""Patches runs, given the unpatched logits, unit by unit; adds to the list what should be known about how."""


def both_ways(
    pairing: Pairing, patching: Patching, n_units: int, direction: Direction, metric: Metric, seed: int
) -> tuple[tuple[PatchSide, ...], str]:
    """Patch in one direction or both.

    Args:
        pairing: which runs are patched with which, and the labels at stake.
        patching: how a direction is patched.
        n_units: number of units.
        direction: "denoising", "noising" or "both".
        metric: "margin" or "probability".
        seed: seed of the bootstrap.

    Returns:
        one side per direction, and what should be known.
    """
    runs, (first, second) = pairing.runs, pairing.labels
    sides, notes = [], [pairing.note]
    for name, side, labels in (("denoising", runs, (first, second)), ("noising", runs.back(), (second, first))):
        if direction in ("both", name):
            # Between two networks, accuracies are measured with the receiver's labels.
            own = runs.into.task.given(side.ids), runs.into.task.true(side.ids)
            sides.append(_measure(name, side, patching, n_units, labels, own, metric, seed, notes))
    return tuple(sides), "; ".join(filter(None, dict.fromkeys(notes)))


def _measure(
    direction: str,
    runs: Runs,
    patching: Patching,
    n_units: int,
    labels: tuple[Tensor, Tensor],
    own: tuple[Tensor, Tensor | None],
    metric: Metric,
    seed: int,
    notes: list[str],
) -> PatchSide:
    """Patch in one direction; return the effects, and add to the notes."""
    before = logits_of(runs.into.model, runs.into.task, runs.ids, runs.into.roles.output)
    target = logits_of(runs.source.model, runs.source.task, runs.source_ids, runs.source.roles.output)
    receiver, donor = (metric_of(logits, labels, metric) for logits in (before, target))
    values = torch.zeros(n_units, len(runs.ids), dtype=torch.float64)
    # Given and true label; the last column is the unpatched run.
    share = torch.zeros(2, n_units + 1, dtype=torch.float64)
    for row, label in enumerate(own):
        share[row, -1] = torch.nan if label is None else (before.argmax(1) == label).double().mean()
    for chosen, block, logits in patching(runs, before, notes):
        values[chosen, block] = metric_of(logits, (labels[0][block], labels[1][block]), metric)
        for row, label in enumerate(own):
            right = torch.nan if label is None else (logits.argmax(-1) == label[block]).double().sum(1)
            share[row, chosen] += right / len(runs.ids)
    effect, low, high, reason = effects_of(values, receiver, donor, seed)
    return PatchSide(
        direction,
        effect=effect,
        low=low,
        high=high,
        patched=values.mean(1),
        receiver=bootstrap(np.mean, (receiver.numpy(),), seed=derive_seed(seed, "patching")),
        donor=bootstrap(np.mean, (donor.numpy(),), seed=derive_seed(seed, "patching")),
        given_before=float(share[0, -1]),
        true_before=float(share[1, -1]),
        given_after=share[0, :-1],
        true_after=share[1, :-1],
        reason=reason,
    )
