"""The recipe's networks at every scale: a tenth of the labels wrong, on two sets of images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mechmem.models.networks.config import ModelConfig
from mechmem.models.networks.image_config import CNNConfig, ImageMLPConfig, ResNetConfig
from mechmem.models.networks.mask_config import ExampleTied
from mechmem.recipes.claims import Arms, Scale, Trial, seeded
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.image_config import ImageConfig
from mechmem.training.config import TrainConfig

SEEDS: dict[Scale, range] = {"smoke": range(3, 4), "small": range(40, 43), "paper": range(3, 6)}
"""Seeds of each arm to start with. Epochs and learning rates were chosen with seed 100, which is not judged."""

XI = 0.1
DIGITS, MNIST = "digits", "MNIST"
DATA = (DIGITS, MNIST)
KINDS = ("MLP", "CNN", "ResNet")
TIED = f"MLP with example-tied dropout, {MNIST}"

IMAGES: dict[tuple[Scale, str], tuple[str, int, int]] = {
    ("smoke", DIGITS): ("digits", 80, 60),
    ("smoke", MNIST): ("digits", 100, 60),
    ("small", DIGITS): ("digits", 1000, 700),
    ("small", MNIST): ("mnist5k", 1000, 2000),
    ("paper", DIGITS): ("fashion_mnist", 0, 0),
    ("paper", MNIST): ("cifar10", 0, 0),
}
"""Data, training images and test images."""

SMALL: dict[str, tuple[ModelConfig, dict[str, int], float]] = {
    "MLP": (ImageMLPConfig((512, 512, 512)), {DIGITS: 60, MNIST: 40}, 1e-3),
    "CNN": (CNNConfig((16, 32, 64)), {DIGITS: 100, MNIST: 100}, 3e-3),
    "ResNet": (ResNetConfig(width=8, blocks=(1, 1, 1)), {DIGITS: 60, MNIST: 40}, 3e-3),
    TIED: (ImageMLPConfig((512, 512, 512), masks=ExampleTied(shared=0.2, memory=0.1)), {MNIST: 100}, 1e-3),
}
"""Network, epochs and learning rate at the small scale."""

TINY: dict[str, ModelConfig] = {
    "MLP": ImageMLPConfig((24, 24)),
    "CNN": CNNConfig((4, 6)),
    "ResNet": ResNetConfig(width=4, blocks=(1, 1)),
    TIED: ImageMLPConfig((24, 24), masks=ExampleTied(shared=0.2, memory=0.1)),
}
LARGE: dict[str, ModelConfig] = {
    "MLP": ImageMLPConfig((2048, 2048, 2048)),
    "CNN": CNNConfig((64, 128, 256, 512)),
    "ResNet": ResNetConfig(),
    TIED: ImageMLPConfig((2048, 2048, 2048), masks=ExampleTied(shared=0.2, memory=0.1)),
}


def arm(kind: str, data: str) -> str:
    """Return the name of a setting."""
    return f"{kind}, {data}"


def _config(scale: Scale, seed: int, *, kind: str, data: str) -> TrainConfig:
    name, train, test = IMAGES[scale, data]
    small, epochs, lr = SMALL[kind]
    batch = {"smoke": 20, "small": 64, "paper": 512}[scale]
    per_epoch = -(-(train or 50_000) // batch)
    return TrainConfig(
        ImageConfig(data=name, train=train, test=test, noise=LabelNoise(XI), seed=seed),
        {"smoke": TINY[kind], "small": small, "paper": LARGE[kind]}[scale],
        optimizer="adam",
        lr=1e-3 if scale == "paper" else lr,
        weight_decay=0.0,
        batch_size=batch,
        steps={"smoke": 12, "small": epochs[data] * per_epoch, "paper": 100 * per_epoch}[scale],
        seed=seed,
        evaluations=10,
        checkpoints=1,
    )


ARMS: Arms = {arm(kind, data): partial(_config, kind=kind, data=data) for kind in KINDS for data in DATA} | {
    TIED: partial(_config, kind=TIED, data=MNIST)
}


def trials(*arms: str) -> Callable[[Scale], list[Trial]]:
    """Return the trials of these arms."""
    return lambda scale: seeded(scale, SEEDS, {name: ARMS[name] for name in arms})
