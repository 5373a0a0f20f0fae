"""The paper's networks at every scale, trained on random labels with and without augmentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

from mechmem.models.networks.image_config import CNNConfig, ImageModelConfig, ResNetConfig
from mechmem.recipes.claims import Arms, Scale, Trial, seeded
from mechmem.tasks.config import LabelNoise
from mechmem.tasks.image_config import Augmentation, ImageConfig
from mechmem.training.config import TrainConfig

SEEDS: dict[Scale, range] = {"smoke": range(3, 4), "small": range(30, 33), "paper": range(3, 6)}
"""Seeds of each arm. Numbers of images and steps were chosen on seed 100 by training accuracy and time only: with 1000
images and augmentation 87 % of the labels are fitted after 4642 steps, 92 % after 6813, 95 % after 10,000."""

AUGMENTED, PLAIN, MIXUP, REAL = "augmented", "not augmented", "mixup", "real images"
VIEWS = (1, 4, 16)
"""Numbers of fixed augmentations per image."""
STRENGTHS = (5, 15)
"""Magnitudes of RandAugment; without augmentation it is 0."""
WIDTHS = {"quarter width": 4, "half width": 2, "": 1}
"""Divisors of the network's width by name."""

AFFINE = Augmentation(degrees=10, translate=0.1, zoom=0.1)
"""For digits: mirroring, cropping or recolouring one would change its class or nothing."""
PAPERS = Augmentation(crop=0.2, flip=True, jitter=0.4, grayscale=0.2)

STEPS = {"smoke": 12, "small": 8000, "paper": 1_000_000}
"""Training steps with augmentation drawn anew; with fixed views three quarters of them, without augmentation half."""


def same(views: int) -> str:
    """Return the name of the arm in which views share their image's label."""
    return f"{views} view{'s' * (views > 1)}, same label"


def independent(views: int, width: str = "") -> str:
    """Return the name of the arm in which each view has its own label."""
    return ", ".join(filter(None, (f"{views} view{'s' * (views > 1)}, independent labels", width)))


def strength(magnitude: int) -> str:
    """Return the name of the arm with this magnitude of RandAugment."""
    return f"RandAugment {magnitude}" if magnitude else PLAIN


def network(scale: Scale, part: int = 1) -> ImageModelConfig:
    """Return the encoder and projector: the paper's ResNet18, or three convolutions below the paper's scale."""
    if scale == "paper":
        return ResNetConfig(width=64 // part, projector=2048 // part)
    if scale == "smoke":
        return CNNConfig((4, 4), projector=8)
    return CNNConfig((16 // part, 32 // part, 64 // part), projector=256 // part)


def config(
    scale: Scale,
    seed: int,
    *,
    augmentation: Augmentation | None = None,
    share: float = 1.0,
    part: int = 1,
    train: int = 0,
) -> TrainConfig:
    """Return the config of a network trained on uniformly random labels with squared error, as in the paper.

    Args:
        scale: the recipe's scale.
        seed: seed of images, labels and network.
        augmentation: the augmentation of images; none by default.
        share: fraction of `STEPS`.
        part: divisor of the network's width.
        train: number of images at the paper's scale; 0 for all.
    """
    data, images, test = {
        "smoke": ("digits", 60, 60),
        "small": ("mnist5k", 1000, 1000),
        "paper": ("cifar10", train, 0),
    }[scale]
    return TrainConfig(
        ImageConfig(
            data=data,
            train=images,
            test=test,
            noise=LabelNoise(1.0, "any"),
            augmentation=augmentation or Augmentation(),
            seed=seed,
        ),
        network(scale, part),
        loss="mse",
        optimizer="adam",
        lr=3e-4 if scale == "paper" else 1e-3,
        weight_decay=0.0,
        batch_size={"smoke": 30, "small": 100, "paper": 256}[scale],
        steps=max(1, round(share * STEPS[scale])),
        seed=seed,
        evaluations=30,
        checkpoints=12 if augmentation == AFFINE or augmentation == PAPERS else 2,
    )


def shown(scale: Scale) -> Augmentation:
    """Return the augmentation of a scale."""
    return PAPERS if scale == "paper" else AFFINE


def _anew(scale: Scale, seed: int) -> TrainConfig:
    return config(scale, seed, augmentation=shown(scale))


def _fixed(scale: Scale, seed: int, *, views: int, labels: str = "same", part: int = 1) -> TrainConfig:
    augmentation = dataclasses.replace(shown(scale), views=views, labels=labels)
    return config(scale, seed, augmentation=augmentation, share=0.75, part=part)


def _real(scale: Scale, seed: int) -> TrainConfig:
    # 3800 of 50,000 images leave 12 others each, which share only their class; 1000 of 5000 leave no more than three.
    augmentation = Augmentation(real=True, views={"smoke": 2, "small": 3, "paper": 12}[scale])
    return config(scale, seed, augmentation=augmentation, train=3800)


ARMS: Arms = {
    AUGMENTED: _anew,
    PLAIN: partial(config, share=0.5),
    MIXUP: partial(config, augmentation=Augmentation(mixup=1.0)),
    REAL: _real,
    **{same(views): partial(_fixed, views=views) for views in VIEWS},
    **{
        independent(views, name): partial(_fixed, views=views, labels="independent", part=part)
        for views in VIEWS
        for name, part in WIDTHS.items()
    },
    **{strength(each): partial(config, augmentation=Augmentation(randaugment=each)) for each in STRENGTHS},
}


def trials(*arms: str) -> Callable[[Scale], list[Trial]]:
    """Return the trials of these arms."""
    return lambda scale: seeded(scale, SEEDS, {arm: ARMS[arm] for arm in arms})


def frontier() -> tuple[str, ...]:
    """Return the arms of independent labels over widths and numbers of views."""
    return tuple(independent(count, width) for width in WIDTHS for count in VIEWS)
