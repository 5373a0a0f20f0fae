"""Config of how images are changed between one sight of them and the next. Imports no torch."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

from mechmem.config import Config, check_choice, check_fraction, check_number, check_whole
from mechmem.errors import ConfigError

ViewLabels = Literal["same", "independent"]

GREATEST_MAGNITUDE = 29
"""The magnitudes of kornia's RandAugment lie between 0 and 30."""


@dataclasses.dataclass(frozen=True)
class Augmentation(Config):
    """Random changes of training images. With the defaults there are none. Test images are never changed.

    Every step shows each image anew; or, with `views`, each image is replaced by so many changed copies, drawn once,
    that are examples with ids and labels of their own. Pixels outside the image are black.

    Attributes:
        degrees: rotation, at most so many degrees either way.
        translate: shift, at most this share of the side either way.
        zoom: scaling, at most this share up or down.
        shear: shear along both axes, at most so many degrees either way.
        crop: a part of at least this share of the area, enlarged to the whole; 1 for none.
        flip: whether half of the images are mirrored left to right.
        jitter: greatest relative change of brightness, contrast and saturation, and four times that of the hue.
        grayscale: probability that the colours are taken away.
        randaugment: magnitude of RandAugment's two random changes, up to 29; 0 for none.
        mixup: the image keeps a share max(λ, 1 − λ), λ ~ Beta(mixup, mixup), and takes the rest from another one; its
            label stays. 0 for none.
        real: whether a view is another image of the same class instead, of those that are in neither set: augmentation
            by new data. Each of them serves one image; needs `views`.
        views: number of fixed views per image; 0 for a new one at every step.
        labels: "same" label for the views of an image; or "independent", drawn for each view by the task's noise.
        seed: seed of the changes.

    Source: Anagnostidis et al. 2023, arXiv 2210.14019.
    """

    kind: ClassVar[str] = "augmentation"
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
        """Validate."""
        for setting in ("degrees", "shear", "jitter", "mixup"):
            check_number(setting, getattr(self, setting), least=0)
        for setting in ("translate", "zoom", "crop", "grayscale"):
            check_fraction(setting, getattr(self, setting))
        for setting in ("randaugment", "views", "seed"):
            check_whole(setting, getattr(self, setting), 0)
        check_choice("labels of views", self.labels, get_args(ViewLabels))
        if self.crop == 0 or self.zoom == 1:
            raise ConfigError("a crop, and an image scaled down, must leave something: crop is above 0, zoom below 1")
        if self.randaugment > GREATEST_MAGNITUDE:
            raise ConfigError(f"randaugment is a magnitude of at most {GREATEST_MAGNITUDE}, got {self.randaugment}")
        if self.jitter > 1:
            raise ConfigError(f"jitter must be at most 1, got {self.jitter}")
        if self.real and not self.views:
            raise ConfigError("real images in the place of augmented ones are dealt out once: say how many with views=")
        if self.views and not (self.changes or self.real):
            raise ConfigError("fixed views of an image differ by augmentation, and none is named")
        if self.labels == "independent" and not self.views:
            raise ConfigError("only fixed views have labels of their own: say how many with views=")

    @property
    def moves(self) -> bool:
        """Whether pixels are moved: rotated, shifted, scaled or sheared."""
        return bool(self.degrees or self.translate or self.zoom or self.shear)

    @property
    def colours(self) -> bool:
        """Whether something is done that needs three channels."""
        return bool(self.jitter or self.grayscale or self.randaugment)

    @property
    def changes(self) -> bool:
        """Whether an image is changed at all."""
        return bool(self.moves or self.crop < 1 or self.flip or self.colours or self.mixup)
