"""Accuracy effects of every single neuron by bound and rank-1 step, against a hook that zeroes one neuron at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bench_pruning import WIDTH, P, trained
from timing import alternately

import mechmem as mm
from mechmem.math.ablation import single_ablation_flips
from mechmem.models.reading.linear_readout import linear_readout


@torch.no_grad()
def through_hooks(subject: mm.Subject, labels: torch.Tensor, splits: torch.Tensor) -> torch.Tensor:
    """The reference: number of correct cells without each neuron, less with all. Shape (neuron, split)."""
    model, pairs = subject.model, subject.task.batch(subject.task.ids)[0]

    def correct() -> torch.Tensor:
        return (splits & (model(pairs).argmax(1) == labels)).sum(1)

    whole, rows = correct(), []
    for neuron in range(WIDTH):
        column = torch.tensor([neuron])
        with model.hooks(fwd_hooks=[("hook_hidden", lambda out, hook, column=column: out.index_fill_(1, column, 0))]):
            rows.append(correct() - whole)
    return torch.stack(rows)


def run(add: Callable[..., None]) -> None:
    subject = trained()
    task = subject.task
    labels = task.given(task.ids)
    splits = torch.stack([torch.isin(task.ids, ids) for ids in task.splits.values() if ids is not None])

    def ours() -> torch.Tensor:
        # A subject of its own each time: its activations and logits are computed anew.
        readout = linear_readout(mm.Subject(subject.model, task, subject.roles))
        flips = single_ablation_flips(readout.hidden, readout.weights, readout.logits)
        return torch.stack([flips.change(labels, among) for among in splits], 1)

    def plain() -> torch.Tensor:
        return through_hooks(subject, labels, splits)

    fast, slow = ours(), plain()
    assert slow.abs().max() > 3, "no neuron matters to any split"
    # Rounding may break a tie of two logits otherwise.
    apart = (fast - slow).abs()
    assert apart.max() <= 1 and apart.count_nonzero() <= 5, f"effects disagree by up to {apart.max()} cells"
    what = f"accuracy effects of all {WIDTH} single neurons, p={P}, {int(apart.count_nonzero())} cells apart"
    add(what, *alternately(plain, ours, 3), 10, speedup=True)
