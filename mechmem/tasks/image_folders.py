"""Folders of images and HuggingFace data sets, read by `datasets`."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange

from mechmem.core.in_words import reason
from mechmem.core.labels import labels as read_labels
from mechmem.errors import ConfigError
from mechmem.tasks.image_data import SIXTEEN_BITS, ImageData

TEST_SPLITS = ("test", "validation", "valid", "val", "dev", "eval", "testing", "evaluation")
"""Names of held-out splits, in any case; of several, the first in this order."""

LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "target", "category")
"""Columns of classes; of several, the first in this order."""

LAYOUT = (
    "a folder needs a folder for each class in it (or in its train/ and test/), or a metadata.csv with the columns "
)
LAYOUT += "file_name and label"


def read_datasets(name: str, *, download: bool) -> ImageData:
    """Read a folder (by class, with metadata.csv, of parquet files, or saved by `datasets`), or a data set by name.

    Raises:
        ConfigError: it cannot be read, or is not a set of labelled images of one size.
    """
    loaded = opened(name, download)
    if "train" not in loaded and len(loaded) > 1:
        raise ConfigError(f"{name!r} has no split 'train'; it has {', '.join(map(str, loaded))}")
    parts = [loaded["train"] if "train" in loaded else next(iter(loaded.values()))]
    own = held_out_split(loaded, repr(name)) if "train" in loaded else None
    parts += [] if own is None else [loaded[own]]
    image, label = _columns(name, parts[0])
    if any(image not in part.features or label not in part.features for part in parts):
        raise ConfigError(f"{name!r} has the columns {image} and {label} in its split train, but not in {own}")
    pixels = [_pixels(name, part, image) for part in parts]
    if len({(each.shape[1:], each.dtype) for each in pixels}) > 1:
        raise ConfigError(f"the images of {name!r} differ in size or channels between training and test")
    _check_folders(name, getattr(parts[0].features[label], "names", None), [set(part[label]) for part in parts])
    found = read_labels(label=[value for part in parts for value in part[label]])
    classes, names = found.columns["label"], getattr(parts[0].features[label], "names", found.names)
    if int(classes.min()) < 0:
        raise ConfigError(f"image {int((classes < 0).nonzero()[0])} of {name!r} has no class ({int(classes.min())})")
    stacked = rearrange(np.concatenate(pixels), "image row column channel -> image channel row column")
    wide = torch.from_numpy(stacked.astype(np.int32) if stacked.dtype == np.uint16 else stacked)
    n_classes = int(classes.max()) + 1 if names is None else len(names)
    return ImageData(wide, classes, n_classes, len(pixels[1]) if own else 0, None if names is None else tuple(names))


def opened(name: str, download: bool) -> Mapping[Any, Any]:
    """Return the splits by name."""
    import datasets

    path, folder = Path(name), os.path.isdir(name)
    try:
        with _quiet(bars=not folder), contextlib.nullcontext() if download else _offline():
            if not folder:
                loaded: Any = datasets.load_dataset(name)
            elif (path / "dataset_dict.json").exists() or (path / "state.json").exists():
                loaded = datasets.load_from_disk(name)
            elif next(path.rglob("*.parquet"), None) is not None:
                loaded = datasets.load_dataset("parquet", data_dir=name)
            else:
                loaded = datasets.load_dataset("imagefolder", data_dir=name)
    except Exception as error:  # any failure of the hub, the folder or the network
        if folder:
            raise ConfigError(f"data {name!r} cannot be read as images: {reason(error)}; {LAYOUT}") from error
        raise ConfigError(
            f"data {name!r} is neither digits, mnist5k, a local folder, nor a data set that opens: {reason(error)}"
        ) from error
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def held_out_split(splits: Iterable[Any], name: str, *, strict: bool = True) -> Any:
    """Return which of the splits besides "train" is held out; None if there are none.

    Args:
        splits: the names of the splits.
        name: whose they are, for errors.
        strict: whether to refuse others when none of them is known to be held out.

    Raises:
        ConfigError: there are others, and none is called as held-out data are.
    """
    others = [split for split in splits if str(split) != "train"]
    # Of names that differ in case, the plain one.
    called = {str(split).lower(): split for split in sorted(others, key=lambda split: str(split).islower())}
    found = next((called[each] for each in TEST_SPLITS if each in called), None)
    if found is None and others and strict:
        raise ConfigError(
            f"{name} has the splits train and {', '.join(map(str, others))}, of which none is called 'test' or "
            "'validation': name the held-out one so, or pass the split of training data alone"
        )
    return found


def _columns(name: str, part: Any) -> tuple[str, str]:
    import datasets

    images = [key for key, kind in part.features.items() if isinstance(kind, datasets.Image)]
    labels = [key for key, kind in part.features.items() if isinstance(kind, datasets.ClassLabel)]
    if not labels:
        labels = [
            key for key, kind in part.features.items() if isinstance(kind, datasets.Value) and key in LABEL_COLUMNS
        ]
    if len(images) != 1 or not labels:
        raise ConfigError(
            f"{name!r} has the columns {', '.join(part.features)}, but needs one of images and one of classes "
            f"({', '.join(LABEL_COLUMNS)}); {LAYOUT}"
        )
    return images[0], next((key for key in LABEL_COLUMNS if key in labels), labels[0])


def _check_folders(name: str, names: Any, found: list[set[Any]]) -> None:
    """Refuse the folders train and test as classes, which `datasets` makes of them where they hold no classes.

    Raises:
        ConfigError: classes are named like splits, and each split has one of its own, or none.
    """
    splits = {"train", "training", *TEST_SPLITS}
    if names is not None and len(found) > 1 and {*names} <= splits and all(len(each - {None}) < 2 for each in found):
        raise ConfigError(f"{name!r} has images in {' and '.join(names)}, but no folders of classes there; {LAYOUT}")


def _pixels(name: str, part: Any, column: str) -> np.ndarray:
    """Return the images of a split. Shape (image, row, column, channel).

    Raises:
        ConfigError: an image cannot be read, or differs from the others in size, channels or bits.
    """
    import datasets

    found = []
    for number, stored in enumerate(part.cast_column(column, datasets.Image(decode=False))[column]):
        where = f"{(stored or {}).get('path') or f'number {number}'} of {name!r}"
        # An address instead of a file would be fetched.
        if stored is None or (stored["bytes"] is None and not Path(stored["path"]).is_file()):
            raise ConfigError(f"image {where} is not there")
        try:
            image = datasets.Image().decode_example(stored)
            values = _values(image)
        except Exception as error:  # any failure of the decoder on a broken file
            raise ConfigError(f"image {where} cannot be read: {error}") from error
        found.append(values[..., None] if values.ndim == 2 else values)
        if found[-1].shape != found[0].shape or found[-1].dtype != found[0].dtype:
            raise ConfigError(
                f"image {where} has rows, columns and channels {found[-1].shape} of {found[-1].dtype}, but the first "
                f"image has {found[0].shape} of {found[0].dtype}: all must be equal"
            )
    return np.stack(found)


def _values(image: Any) -> np.ndarray:
    """Return the pixels of an image of PIL: grey of 8 or 16 bits as they are, everything else as RGB.

    Raises:
        ValueError: pixels are numbers that no image of 16 bits has.
    """
    if image.mode == "F":
        raise ValueError("its pixels are fractions of unknown range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    values = np.asarray(image)
    if values.min() < 0 or values.max() > SIXTEEN_BITS:
        raise ValueError(f"its pixels lie in {values.min()} … {values.max()}, outside the 16 bits 0 … {SIXTEEN_BITS}")
    return values.astype(np.uint16)


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
