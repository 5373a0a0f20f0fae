"""Numpy files (.npz), whose headers may say anything of the arrays in them."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path

import numpy as np

from mechmem.errors import ConfigError


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read every array of an .npz file. Nothing is unpickled.

    Raises:
        ConfigError: the file cannot be read, or an array has another size than its header says or does not fit into
            memory.
    """
    try:
        _check_sizes(path)
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except ConfigError:
        raise
    except Exception as error:  # any failure of the readers on a broken file
        raise ConfigError(f"cannot read images from {path}: {error or type(error).__name__}") from error


def whole_number(path: Path, name: str, value: np.ndarray) -> int:
    """Return an array of a file as a number.

    Raises:
        ConfigError: it is not a single whole number.
    """
    if value.ndim or value.dtype.kind not in "iu":
        raise ConfigError(f"{name} in {path} must be one whole number, got {value.dtype} of shape {value.shape}")
    return int(value)


def _check_sizes(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        total = sum(part.file_size for part in parts)
        if total > _memory():
            raise ConfigError(f"the arrays in {path} take {total} bytes, more than this machine's memory")
        for part in parts:
            with archive.open(part) as file:
                major, _ = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(file)
                stored = part.file_size - file.tell()
            if dtype.hasobject:
                raise ConfigError(
                    f"cannot read {part.filename} in {path}: it holds Python objects; save whole numbers or strings"
                )
            if stored != math.prod(shape) * dtype.itemsize:
                raise ConfigError(f"{part.filename} in {path} is said to have shape {shape}, but has {stored} bytes")


def _memory() -> int:
    """Return this machine's memory in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 2**36
