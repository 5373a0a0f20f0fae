"""Pruning curves by algebra, against running the network at every point with the neurons' activations set to zero."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import alternately

import mechmem as mm
from mechmem.core.plugins import named
from mechmem.core.randomness import generator
from mechmem.models.reading.forward import logits_of
from mechmem.neurons.ablate import ablate
from mechmem.neurons.pruning_curves import SPLITS, PruningCurves

P, WIDTH, POINTS = 97, 500, 50
ORDERS = ("low", "high", "random")


@functools.cache
def trained() -> mm.Subject:
    """Doshi et al.'s network in the coexistence phase."""
    return mm.train(
        mm.TrainConfig(
            task=mm.ModularConfig(p=P, train_fraction=0.5, noise=mm.LabelNoise(0.35)),
            model=mm.MLPConfig(width=WIDTH, activation="quadratic", init="doshi_2024"),
            loss="mse",
            lr=0.01,
            betas=(0.9, 0.98),
            weight_decay=0,
            steps=1000,
            evaluations=1,
            checkpoints=1,
        ),
        progress=False,
    )


def through_hooks(subject: mm.Subject, curves: PruningCurves, orders: torch.Tensor, *, losses: bool) -> torch.Tensor:
    """The reference: accuracies, and losses where they are wanted. Shape (2, curve, point, split)."""
    task, model = subject.task, subject.model
    splits = []
    for name in SPLITS:
        ids = task.splits[name.removesuffix("_true")]
        labels = task.true(ids) if name in ("train_noisy_true", "test") else task.given(ids)
        splits.append((task.rows(ids), labels))
    found = torch.full((2, len(orders), len(curves.removed), len(splits)), torch.nan, dtype=torch.float64)
    for curve, order in enumerate(orders):
        for point, count in enumerate(curves.removed.tolist()):
            gone = order[:count]
            handle = model.hook_hidden.register_forward_hook(lambda _m, _i, out, gone=gone: out.index_fill(1, gone, 0))
            logits = logits_of(model, task, task.ids)
            handle.remove()
            right = logits.argmax(1)
            for split, (rows, labels) in enumerate(splits):
                found[0, curve, point, split] = (right[rows] == labels).double().mean()
                if losses:
                    found[1, curve, point, split] = F.cross_entropy(logits[rows], labels)
    return found


def run(add: Callable[..., None]) -> None:
    subject = trained()
    ranking = named("neuron_scores", "ipr")(subject)

    def ours(losses: bool) -> PruningCurves:
        # A subject of its own each time: nothing is remembered from the call before.
        fresh = mm.Subject(subject.model, subject.task, subject.roles)
        return ablate(fresh, by=ranking, order=ORDERS, points=POINTS, draws=1, losses=losses)

    curves = ours(True)
    random = ablate_order(subject, ranking)
    orders = torch.stack([ranking.order("low"), ranking.order("high"), random])
    for losses in (True, False):
        plain, fast = through_hooks(subject, curves, orders, losses=losses), ours(losses)
        # One example may fall on the other side of a tie that rounding breaks.
        apart = ((plain[0] - fast.accuracy) * fast.n).abs().max()
        assert apart < 1.5, f"accuracies disagree by {apart:.0f} examples"
        if losses:
            assert torch.allclose(plain[1], fast.loss, rtol=1e-4, atol=1e-6), "losses disagree"
        times = alternately(
            lambda wanted=losses: through_hooks(subject, curves, orders, losses=wanted),
            lambda wanted=losses: ours(wanted),
            3,
        )
        what = f"pruning curves, {POINTS} points, {len(ORDERS)} orders, p={P}, N={WIDTH}"
        add(f"{what}, {'accuracies and losses' if losses else 'accuracies'}", *times, 10, speedup=True)


def ablate_order(subject: mm.Subject, ranking: mm.NeuronScores) -> torch.Tensor:
    """The neurons in the random order that `ablate` draws."""
    return torch.randperm(len(ranking.values), generator=generator(0, "ablation order", 0))
