"""Checks of where results are to be written, before the work that they come from; and temporary directories."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from pathlib import Path

from mechmem.core.files import written
from mechmem.core.in_words import shown
from mechmem.errors import RunDirectoryError

LONGEST_NAME, LONGEST_PATH = 255, 3000
"""Bytes that file systems allow in a name, and in a path to which names of files are added."""
MOST_PARTS = 200
"""Most directories within each other."""


def check_path(path: str | Path, name: str = "out") -> None:
    """Refuse a path that no file system has.

    Raises:
        RunDirectoryError: it is empty, too long, or holds a null character.
    """
    text = os.fspath(path)
    if not text:
        raise RunDirectoryError(f"{name} must be a path, got {text!r}")
    if text.split(os.sep)[0].startswith("~"):
        raise RunDirectoryError(
            f"{name} must be a path without ~, got {shown(text)}: write os.path.expanduser({text!r})"
        )
    if "\0" in text:
        raise RunDirectoryError(f"{name} must be a path without null characters, got {shown(text)}")
    sizes = [len(os.fsencode(part)) for part in text.split(os.sep)]
    if max(sizes) > LONGEST_NAME:
        raise RunDirectoryError(f"{name} has a name of {max(sizes)} bytes, at most {LONGEST_NAME} are allowed")
    if len(sizes) > MOST_PARTS:
        raise RunDirectoryError(f"{name} has {len(sizes):,} parts, at most {MOST_PARTS} are allowed")
    if len(os.fsencode(text)) > LONGEST_PATH:
        raise RunDirectoryError(f"{name} has {len(os.fsencode(text)):,} bytes, at most {LONGEST_PATH:,} are allowed")


def check_place(path: str | Path, name: str = "out", *, file: bool = False) -> Path:
    """Return where a directory (or a file) can be written. Nothing is left there.

    Args:
        path: the place; it need not exist.
        name: the argument, for errors.
        file: whether it is to be a file.

    Raises:
        RunDirectoryError: nothing can be written there.
    """
    check_path(path, name)
    place = Path(path)
    for count, part in enumerate(place.parts):
        if part == ".." and not (before := Path(*place.parts[:count])).exists():
            raise RunDirectoryError(f"{name}: {place} leads through {before}, which does not exist")
    try:
        if file and place.is_dir():
            raise RunDirectoryError(f"{name} must be the path of a file, but {place} is a directory")
        if file and place.exists() and not place.is_file():
            raise RunDirectoryError(f"{name} must be the path of a file, but {place} is a pipe or a device")
        if not file and place.is_symlink() and not place.exists():
            raise RunDirectoryError(f"{name}: {place} is a link to {os.readlink(place)}, which does not exist")
        if not file and place.exists() and not place.is_dir():
            raise RunDirectoryError(f"{place} holds something else: {name} must be a directory, and it is a file")
        folder = next(
            each
            for each in ((place.absolute(),) if not file else ()) + tuple(place.absolute().parents)
            if each.exists()
        )
        # Permissions do not tell it: a read-only file system, or /proc, refuses what they allow.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # A full disk is told when results are written, and a run in it may still be read.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise RunDirectoryError(f"{name}: cannot write to {place}: {error.strerror}") from error
    return place


class TemporaryFolder:
    """A directory that is deleted with this object, without the warning of `tempfile.TemporaryDirectory`."""

    def __init__(self):
        with written("the directory of temporary files"):
            self.path = tempfile.mkdtemp(prefix="mechmem-")
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the object too
        shutil.rmtree(path, ignore_errors=True)
