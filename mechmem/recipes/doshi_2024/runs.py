"""The paper's networks at every scale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mechmem.models.config import MLPConfig
from mechmem.reproduction.claims import Arms, Scale, Trial, seeded
from mechmem.tasks.config import LabelNoise, ModularConfig
from mechmem.training.config import TrainConfig

PLAIN = "wd 0"
SEEDS: dict[Scale, range] = {"smoke": range(3, 4), "small": range(3, 6), "paper": range(3, 8)}
"""Seeds of each arm. Seeds 0 to 2 were looked at while the rules were written; others judge."""


def config(
    scale: Scale,
    seed: int,
    *,
    steps: int,
    wd: float = 0.0,
    alpha: float = 0.5,
    xi: float = 0.35,
    dropout: float = 0.0,
    batch_norm: bool = False,
    batch_size: int = 0,
) -> TrainConfig:
    """Return the paper's default network (p = 97, N = 500, x², MSE, AdamW) with these settings.

    Minibatches have the paper's learning rate .01·√(bs/256), BatchNorm its Adam at .005.
    """
    small = scale == "smoke"
    task = ModularConfig(p=11 if small else 97, train_fraction=alpha, noise=LabelNoise(xi, "any"), seed=seed)
    width = 24 if small else 500
    model = MLPConfig(width, "quadratic", "doshi_2024", dropout=dropout, batch_norm=batch_norm)
    return TrainConfig(
        task,
        model,
        loss="mse",
        optimizer="adam" if batch_size else "adamw",
        lr=0.01 * (batch_size / 256) ** 0.5 if batch_size else 0.01,
        weight_decay=wd,
        betas=(0.9, 0.98),
        steps=min(steps, 12) if small else steps,
        batch_size=batch_size,
        seed=seed,
        evaluations=40,
        checkpoints=2,
    )


ARMS: Arms = {
    PLAIN: partial(config, steps=1000),
    "wd 0, 500 steps": partial(config, steps=500),
    "wd 0, 2000 steps": partial(config, steps=2000),
    "wd 5": partial(config, steps=500, wd=5),
    "wd 5, 2000 steps": partial(config, steps=2000, wd=5),
    "wd 15": partial(config, steps=500, wd=15),
    "wd 20": partial(config, steps=5000, wd=20),
    "dropout .6": partial(config, steps=2000, dropout=0.6),
    "BatchNorm": partial(config, steps=2000, alpha=0.65, xi=0.2, batch_size=64, batch_norm=True),
    "no BatchNorm": partial(config, steps=2000, alpha=0.65, xi=0.2, batch_size=64),
}
"""Named settings; α = .5 and ξ = .35 unless said otherwise, BatchNorm and its control α = .65 and ξ = .2."""


def trials(*arms: str) -> Callable[[Scale], list[Trial]]:
    """Return the trials of these arms."""
    return lambda scale: seeded(scale, SEEDS, {arm: ARMS[arm] for arm in arms})


def grid(scale: Scale) -> list[Trial]:
    """Return the trials of the phase diagram, without and with weight decay."""
    alphas, xis, steps = {
        "smoke": ((0.3, 0.7), (0.2, 0.4, 0.6), 12),
        "small": ((0.3, 0.5, 0.7), (0.0, 0.2, 0.4, 0.6), 1000),
        "paper": (
            tuple(round(0.1 + 0.05 * i, 2) for i in range(17)),
            tuple(round(0.05 * i, 2) for i in range(19)),
            2000,
        ),
    }[scale]
    arms = {
        f"α {alpha:g}, ξ {xi:g}, wd {wd}": partial(config, steps=steps, wd=wd, alpha=alpha, xi=xi)
        for wd in (0, 15)
        for alpha in alphas
        for xi in xis
    }
    return seeded(scale, SEEDS, arms)
