"""Training and held-out data among what a user passes: data sets, splits by name, and paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from mechmem.core.in_words import reason, shown
from mechmem.errors import ConfigError
from mechmem.tasks.dataset_sources import OfFrame, OfHuggingFace, OfTorch, Source
from mechmem.tasks.image_folders import held_out_split, opened

STREAMED = (
    "is a stream: its examples have no numbers, so that they can neither be read again, nor scored, nor split. Pass "
    "one that can be read by number, e.g. list(stream) of a part, or datasets.Dataset.from_generator"
)
"""Why a data set that can only be read from its beginning is refused."""


def source_of(data: Any, argument: str) -> Source:
    """Return a data set as a source.

    Args:
        data: the data set.
        argument: the argument that it was passed as, for errors.

    Raises:
        ConfigError: it can only be read from its beginning, has no length, or is empty.
    """
    kind = type(data).__module__.partition(".")[0]
    if isinstance(data, DataLoader):
        raise ConfigError(f"{argument} is a loader, which hands out batches: pass its data set, loader.dataset")
    if isinstance(data, IterableDataset) or type(data).__name__.startswith("IterableDataset"):
        raise ConfigError(f"{argument} {STREAMED}")
    grouped = kind == "pandas" and hasattr(data, "groups")  # has a length and items, which are columns
    numbered = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not grouped
    if kind == "pandas" and hasattr(data, "iloc") and hasattr(data, "columns"):
        found: Source = OfFrame(data, argument)
    elif kind == "pandas" and hasattr(data, "iloc"):
        found = OfTorch(data.reset_index(drop=True), argument)  # a column, read by position
        found.index = data.index
    elif kind == "datasets" and hasattr(data, "features"):
        found = OfHuggingFace(data, argument)
    elif numbered and not isinstance(data, str | bytes | Mapping):
        found = OfTorch(data, argument)
    elif isinstance(data, Iterable) and not grouped and not isinstance(data, str | bytes | Mapping):
        raise ConfigError(f"{argument} {STREAMED}")
    else:
        raise ConfigError(
            f"{argument} must be a data set of torch or HuggingFace, a frame of pandas or the path of a folder, got "
            f"{shown(data)}"
        )
    try:
        empty = not len(found)
    except Exception as error:  # any failure of the user's own code
        raise ConfigError(f"{argument} has no length that can be used: {reason(error)}") from error
    if empty:
        raise ConfigError(f"{argument} has no examples")
    return found


def parts_of(train: Any, test: Any) -> tuple[Source, Source | None]:
    """Return training and held-out data; splits by name give both.

    Args:
        train: a data set, splits by name, or the path of a folder of images or of data saved by `datasets`.
        test: the same; of splits by name, there must be one. None for no held-out data of the user's own.

    Raises:
        ConfigError: there is no split "train", held-out data are given twice, it is unclear which split they are, or a
            path is that of a file.
    """
    train, test = _opened(train, "train"), _opened(test, "test")
    if isinstance(train, Mapping):
        if "train" not in train:
            known = ", ".join(map(str, train)) or "none"
            table = all(isinstance(each, list | tuple) or hasattr(each, "__array__") for each in train.values())
            hint = ". Columns are passed as a frame of pandas, pd.DataFrame(train)" * (bool(train) and table)
            raise ConfigError(f"train has no split 'train'; it has {known}{hint}")
        own = held_out_split(train, "train", strict=test is None)
        if own is not None and test is not None:
            raise ConfigError("test is given, but train has a split of held-out data itself")
        train, test = train["train"], test if own is None else train[own]
    if isinstance(test, Mapping):
        if len(test) != 1:
            several = " and ".join(map(str, test)) or "none"
            raise ConfigError(f"test has the splits {several}, and must be one: pass it by its name, or its own folder")
        test = next(iter(test.values()))
    return source_of(train, "train"), None if test is None else source_of(test, "test")


def _opened(data: Any, argument: str) -> Any:
    """Return the splits of a folder by name, or what is no path as it is."""
    if not isinstance(data, str | Path):
        return data
    if os.path.isfile(data):  # False, too, of what is no path at all
        raise ConfigError(f"{argument} must be a data set or the path of a folder, but {str(data)!r} is a file")
    return opened(str(data), download=False)
