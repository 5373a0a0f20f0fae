"""One step of full-batch training, against dense one-hot inputs and plain autograd.

Products in bfloat16 are faster than in float32 only on processors with instructions for them; on others they take
nearly all of a step, on both sides.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import alternately, note

import mechmem as mm
from mechmem.models.hooks.running import block_rows
from mechmem.models.networks.build import build_model
from mechmem.training.loop import training_step, widen_heap
from mechmem.training.minibatches import Batch
from mechmem.training.optimizers import Optimizers

LIU_LU = mm.TrainConfig(mm.ModularConfig(p=113, train_fraction=0.8, noise=mm.LabelNoise(0.8)), mm.MLPConfig(width=2048))
DOSHI = mm.TrainConfig(
    mm.ModularConfig(p=97, train_fraction=0.5, noise=mm.LabelNoise(0.35)),
    mm.MLPConfig(width=500, activation="quadratic", init="doshi_2024"),
    loss="mse",
    lr=0.01,
    weight_decay=0.0,
    betas=(0.9, 0.98),
)
SMALL = mm.TrainConfig(mm.ModularConfig(p=23, train_fraction=0.5), mm.MLPConfig(width=64))


def at(config: mm.TrainConfig, p: int) -> mm.TrainConfig:
    return dataclasses.replace(config, task=dataclasses.replace(config.task, p=p))


def plain_step(config: mm.TrainConfig, task: mm.ModularTask, model: torch.nn.Module) -> Callable[[], torch.Tensor]:
    """The reference: dense one-hot inputs, the full batch at once, autograd and autocast, the same AdamW."""
    pairs, given = task.batch(task.train_ids)
    p, low = config.task.p, config.precision == "bf16"
    inputs = F.one_hot(pairs + torch.tensor([0, p]), 2 * p).sum(1).float()
    targets = F.one_hot(given, p).float()
    w_in, w_out = (torch.nn.Parameter(w.detach().clone()) for w in (model.W_in, model.W_out))
    settings = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": config.betas}
    optimizer = torch.optim.AdamW([w_in, w_out], fused=True, **settings)
    activation = torch.square if config.model.activation == "quadratic" else F.relu

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            logits = activation(inputs @ w_in) @ w_out
        found = logits.float()
        loss = F.cross_entropy(found, given) if config.loss == "cross_entropy" else F.mse_loss(found, targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def both(config: mm.TrainConfig) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    """The plain step and ours, of two networks that start the same, after checking that they agree."""
    task = mm.ModularTask(config.task)
    model = build_model(config.model, task, 0)
    plain = plain_step(config, task, model)
    optimizers = Optimizers(config, model, model.roles)
    examples = Batch(task.train_ids, *task.batch(task.train_ids))
    widen_heap()

    def ours() -> torch.Tensor:
        return training_step(model, optimizers, examples, config, block_rows(model), ())

    tolerance = 1e-5 if config.precision == "fp32" else 2e-3
    for _ in range(3):
        assert abs(float(plain()) - float(ours())) < tolerance * 5, "the two steps disagree"
    return plain, ours


def training(add: Callable[..., None], config: mm.TrainConfig, precision: str, bar: float, rounds: int = 9) -> None:
    plain, ours = both(dataclasses.replace(config, precision=precision))
    what = f"training step, {precision}, p={config.task.p}, N={config.model.width}, {config.model.activation}"
    add(what, *alternately(plain, ours, rounds, time.process_time), bar, speedup=True)


def run(add: Callable[..., None]) -> None:
    training(add, LIU_LU, "fp32", 2.3)
    training(add, LIU_LU, "bf16", 4.5)
    for p in (97, 59):
        training(add, at(DOSHI, p), "fp32", 1.3, rounds=25)
        training(add, at(DOSHI, p), "bf16", 1.3, rounds=25)
    plain, ours = alternately(*both(SMALL), 1000, time.process_time)
    note("training step, p=23, N=64: above plain", f"{1e3 * (ours - plain):.3f} ms of {1e3 * ours:.3f} ms", "≤ 0.05 ms")
