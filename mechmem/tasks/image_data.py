"""Images with their classes, from a user's arrays."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import zipfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, Int32, UInt8
from torch import Tensor

from mechmem.core.arguments import Checked, checked
from mechmem.core.arrays import Array, described, numbers
from mechmem.core.config import check_whole
from mechmem.core.files import whole_file, written
from mechmem.core.labels import MOST_CLASSES
from mechmem.core.labels import labels as read_labels
from mechmem.core.paths import check_place
from mechmem.errors import ConfigError, RunDirectoryError
from mechmem.tasks.classes import check_from_zero

CHANNELS = (1, 3)

EIGHT_BITS, SIXTEEN_BITS = 255, 65535
"""Largest values of a pixel."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData(Checked):
    """A set of images; arrays are copied.

    Attributes:
        pixels: 0 … 255, or 0 … 65535 for images of 16 bits. Shape (image, channel, row, column).
        labels: class of each image. Shape (image).
        n_classes: number of classes.
        n_test: number of images, at the end, that form the data's own test split; 0 if it has none.
        class_names: the classes' names in their order, where the data names them; else None.
    """

    pixels: UInt8[Tensor, "image channel row column"] | Int32[Tensor, "image channel row column"]
    labels: Int[Tensor, " image"]
    n_classes: int
    n_test: int
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype not in (torch.uint8, torch.int32):
            raise ConfigError(
                f"pixels must be uint8 (int32 for 16 bits) of shape (image, channel, row, column), got "
                f"{described(self.pixels)}; ImageData.from_arrays takes other forms"
            )
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype != torch.long:
            raise ConfigError(f"labels must be int64, one for each image, got {described(self.labels)}")
        check_whole("n_classes", self.n_classes, 1, MOST_CLASSES)
        low, high = (int(end) for end in self.labels.aminmax()) if len(self.labels) else (0, 0)
        if low < 0 or high >= self.n_classes:
            raise ConfigError(f"labels must lie in 0 … {self.n_classes - 1}, got {low} … {high}")
        check_whole("n_test", self.n_test, 0)
        if self.n_test >= max(len(self.labels), 1):
            raise ConfigError(f"n_test must be less than the number of images, {len(self.labels)}, got {self.n_test}")
        if self.class_names is not None and len(self.class_names) != self.n_classes:
            raise ConfigError(f"class_names must be {self.n_classes} names, one per class, got {len(self.class_names)}")
        # Copies, so that a task stays what its digest says when the user's arrays are changed in place.
        for name in ("pixels", "labels"):
            object.__setattr__(self, name, getattr(self, name).clone())

    @classmethod
    @checked
    def from_arrays(cls, images: Array, labels: Array, *, n_test: int = 0, n_classes: int | None = None) -> Self:
        """Make image data from arrays.

        Args:
            images: whole numbers 0 … 255 (0 … 65535 in an array of uint16), or fractions 0 … 1. Shape (image, row,
                column), (image, channel, row, column) or (image, row, column, channel), with 1 or 3 channels.
            labels: class of each image: whole numbers from 0 on; names, which become classes in the order of pandas'
                categories, or else in alphabetical order; or one-hot rows. Shape (image) or (image, class).
            n_test: number of images, at the end, that form a test split.
            n_classes: number of classes; by default one more than the largest label.

        Raises:
            ConfigError: a pixel is not finite or out of range, the shapes do not match, or a label is not a class.
        """
        # uint16 tensors and arrays are wide numbers from here on.
        wide = "uint16" in str(getattr(images, "dtype", ""))
        pixels, found = _checked(numbers(images, "images").detach().cpu().numpy(), wide), read_labels(labels=labels)
        classes = found.columns["labels"]
        if len(classes) != len(pixels):
            raise ConfigError(f"labels must be one whole number for each of {len(pixels)} images, got {len(classes)}")
        check_from_zero(classes, "labels")
        count = max(int(classes.max()) + 1, found.n_classes) if n_classes is None else n_classes
        check_whole("n_classes", count, 1, MOST_CLASSES)
        if count > len(classes):
            raise ConfigError(f"{len(classes)} images cannot be of {count} classes: every class needs one")
        if int(classes.max()) >= count:
            raise ConfigError(f"labels must lie in 0 … {count - 1}, got {int(classes.min())} … {int(classes.max())}")
        return cls(torch.from_numpy(pixels), classes.cpu(), int(count), int(n_test), found.names)

    @checked
    def save(self, path: str | Path) -> None:
        """Write the data to a numpy file for `ImageConfig(data="….npz")`.

        Raises:
            ConfigError: the path is empty or cannot be one.
            RunDirectoryError: it is a directory, cannot be written, or the disk is full.
        """
        place = check_place(path, "path", file=True)
        if place.exists() and not zipfile.is_zipfile(place):
            raise RunDirectoryError(f"path: {path} holds something else than a numpy file; choose another name")
        with written(path), whole_file(Path(path)) as temporary, temporary.open("wb") as file:
            wide = np.uint8 if brightest(self.pixels) == EIGHT_BITS else np.uint16
            names: dict[str, Any] = {} if self.class_names is None else {"class_names": np.array(self.class_names)}
            np.savez_compressed(
                file,
                images=self.pixels.numpy().astype(wide),
                labels=self.labels.numpy(),
                n_test=np.array(self.n_test),
                n_classes=np.array(self.n_classes),
                **names,
            )

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the pixels, the labels and the split."""
        state = hashlib.blake2b(f"{tuple(self.pixels.shape)}|{self.n_classes}|{self.n_test}".encode(), digest_size=8)
        for tensor in (self.pixels, self.labels):
            state.update(tensor.contiguous().numpy().tobytes())
        return state.hexdigest()


def brightest(pixels: Tensor) -> int:
    """Return the largest value that a pixel can have: 255, or 65535 for images of 16 bits."""
    return EIGHT_BITS if pixels.dtype == torch.uint8 else SIXTEEN_BITS


def _checked(images: np.ndarray, wide: bool) -> np.ndarray:
    """Return images in any of the usual layouts as pixels, 0 … 65535 if `wide`. Shape (image, channel, row, column)."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        images = rearrange(images, "image row column channel -> image channel row column")
    if images.ndim != 4 or images.shape[1] not in CHANNELS or 0 in images.shape:
        raise ConfigError(
            f"images must have shape (image, row, column), (image, channel, row, column) or (image, row, column, "
            f"channel), with 1 or 3 channels; got {images.shape}"
        )
    if images.dtype.kind not in "iuf" or not np.isfinite(images).all():
        raise ConfigError(f"a pixel is not a number (images of {images.dtype})")
    low, high = images.min(), images.max()
    most = 1 if images.dtype.kind == "f" else SIXTEEN_BITS if wide else EIGHT_BITS
    if low < 0 or high > most:
        raise ConfigError(f"{images.dtype} pixels must lie in 0 … {most}, got {low} … {high}")
    scaled = images * EIGHT_BITS if images.dtype.kind == "f" else images
    return np.ascontiguousarray(scaled.round().astype(np.int32 if high > EIGHT_BITS else np.uint8))
