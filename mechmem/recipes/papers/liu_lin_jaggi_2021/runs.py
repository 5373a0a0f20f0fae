"""The paper's networks at every scale: real and random labels, with and without turn-over dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mechmem.models.networks.image_config import ImageMLPConfig
from mechmem.models.networks.mask_config import TurnOver
from mechmem.recipes.claims import Arms, Scale, Trial, seeded
from mechmem.recipes.papers.liu_lu_2026.runs import config as modular
from mechmem.tasks.config import LabelNoise, NoiseKind
from mechmem.tasks.image_config import ImageConfig
from mechmem.training.config import TrainConfig

SEEDS: dict[Scale, range] = {"smoke": range(3, 4), "small": range(30, 33), "paper": range(3, 6)}
"""Seeds of each arm to start with. Seeds 3 to 5 were judged before seeds were added until a claim is decided."""

DATA: dict[Scale, tuple[str, int, int]] = {
    "smoke": ("digits", 80, 60),
    "small": ("mnist5k", 3000, 1000),
    "paper": ("mnist", 60_000, 0),
}
WIDTHS: dict[Scale, tuple[int, ...]] = {"smoke": (24, 24, 24), "small": (768,) * 3, "paper": (768,) * 3}
FEW_DATA: dict[Scale, tuple[str, int, int]] = {
    "smoke": ("digits", 80, 60),
    "small": ("mnist5k", 500, 1000),
    "paper": ("mnist", 500, 1000),
}
FEW_WIDTHS: dict[Scale, tuple[int, ...]] = {"smoke": (24, 24, 24), "small": (256,) * 3, "paper": (256,) * 3}
"""The small training set and its networks: Feldman–Zhang memorization needs many of them."""
BATCH = 32
EPOCHS = 40
LONG = 100
"""Epochs of the networks without masks and weight decay: random labels take longer than real ones."""

REAL, RANDOM = "real labels", "random labels"
REAL_MASKED, RANDOM_MASKED = "real labels, turn-over", "random labels, turn-over"
NOISY, NOISY_PLAIN, NOISY_HALF = "ξ .2, turn-over", "ξ .2, no masks", "ξ .4, turn-over"
FEW = "500 images, ξ .2, turn-over"
MIXED = "MNIST, ξ .2, no masks"
MODULAR = "addition mod p, ξ .8"


def config(
    scale: Scale,
    seed: int,
    *,
    xi: float = 0.0,
    noise: NoiseKind = "wrong",
    masked: bool = True,
    mask_seed: int = 0,
    epochs: int = EPOCHS,
    weight_decay: float = 0.01,
    few: bool = False,
) -> TrainConfig:
    """Return the config of an MLP without biases, masked after its first and last hidden layer, trained with SGD."""
    data, train, test = (FEW_DATA if few else DATA)[scale]
    masks = TurnOver(layers=(0, -1), seed=mask_seed) if masked else None
    return TrainConfig(
        ImageConfig(data=data, train=train, test=test, noise=LabelNoise(xi, noise), seed=seed),
        ImageMLPConfig((FEW_WIDTHS if few else WIDTHS)[scale], biases=False, masks=masks),
        optimizer="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=weight_decay,
        batch_size=BATCH,
        steps=12 if scale == "smoke" else epochs * -(-train // BATCH),
        seed=seed,
        evaluations=60,
        checkpoints=8,
    )


_PLAIN = {"masked": False, "epochs": LONG, "weight_decay": 0.0}

ARMS: Arms = {
    REAL: partial(config, **_PLAIN),
    RANDOM: partial(config, xi=1.0, noise="any", **_PLAIN),
    REAL_MASKED: config,
    RANDOM_MASKED: partial(config, xi=1.0, noise="any"),
    NOISY: partial(config, xi=0.2),
    NOISY_HALF: partial(config, xi=0.4),
    NOISY_PLAIN: partial(config, xi=0.2, masked=False),
    FEW: partial(config, xi=0.2, epochs=LONG, few=True),
    MIXED: partial(config, xi=0.2, **_PLAIN),
    MODULAR: partial(modular, width=1024, steps=4000, xi=0.8),
}


def trials(*arms: str) -> Callable[[Scale], list[Trial]]:
    """Return the trials of these arms."""
    return lambda scale: seeded(scale, SEEDS, {arm: ARMS[arm] for arm in arms})
