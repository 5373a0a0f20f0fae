"""One step of full-batch training, against dense one-hot inputs and plain autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import alternately

import mechmem as mm
from mechmem.models.hooks.running import block_rows
from mechmem.models.networks.build import build_model
from mechmem.training.loop import training_step, widen_heap
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers

P, WIDTH = 113, 2048


def config(precision: str) -> mm.TrainConfig:
    task = mm.ModularConfig(p=P, train_fraction=0.8, noise=mm.LabelNoise(0.8))
    return mm.TrainConfig(task=task, model=mm.MLPConfig(width=WIDTH), precision=precision)


def plain_step(task: mm.ModularTask, model: torch.nn.Module) -> Callable[[], torch.Tensor]:
    """The reference: dense one-hot inputs, the full batch at once, autograd, AdamW."""
    pairs, given = task.batch(task.train_ids)
    inputs = F.one_hot(pairs + torch.tensor([0, P]), 2 * P).sum(1).float()
    w_in, w_out = (torch.nn.Parameter(w.detach().clone()) for w in (model.W_in, model.W_out))
    optimizer = torch.optim.AdamW([w_in, w_out], lr=1e-3, weight_decay=0.1)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.relu(inputs @ w_in) @ w_out, given)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def training(add: Callable[..., None], precision: str, bar: float) -> None:
    settings = config(precision)
    task = mm.ModularTask(settings.task)
    model = build_model(settings.model, task, 0)
    plain = plain_step(task, model)
    optimizers = Optimizers(settings, model, model.roles)
    examples = Batch(task.train_ids, *task.batch(task.train_ids))
    widen_heap()

    def ours() -> torch.Tensor:
        return training_step(model, optimizers, examples, settings, block_rows(model))

    tolerance = 1e-5 if precision == "fp32" else 2e-3
    for _ in range(3):
        assert abs(float(plain()) - float(ours())) < tolerance * 5, "the two steps disagree"
    add(f"training step, {precision}, p={P}, N={WIDTH}", *alternately(plain, ours, 9), bar, speedup=True)


def run(add: Callable[..., None]) -> None:
    training(add, "fp32", 2.3)
    training(add, "bf16", 4.5)
