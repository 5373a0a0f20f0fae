"""Locks on files and directories, which the system releases when a process ends, however it ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two processes apart
    fcntl = None


@contextlib.contextmanager
def taken(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a file that only one process can hold at a time, until the block ends; the file is then deleted.

    The system lets go of it when the process ends, however it ended; the file that is left then can be taken again.

    Args:
        path: the file; it is created if it does not exist.
        wait: whether to wait until no other process holds it.

    Raises:
        BlockingIOError: another process holds it, and `wait` is not set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path, os.O_RDWR | os.O_CREAT, wait=wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, flags: int, *, wait: bool = True) -> Iterator[None]:
    """Open a file or directory and lock it until the block ends."""
    if fcntl is None:
        yield
        return
    while True:
        current = False
        opened = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # What was deleted in the meantime is locked in vain.
            with contextlib.suppress(FileNotFoundError):
                current = os.path.samestat(os.fstat(opened), path.stat())
            if current:
                yield
                return
        finally:
            os.close(opened)


def is_taken(path: Path) -> bool:
    """Return whether another process, or another thread of this one, holds a file (see `taken`)."""
    try:
        with locked(path, os.O_RDWR, wait=False):
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def abandoned(path: Path) -> bool:
    """Return whether a process that held a file has died (see `taken`); the file is then deleted."""
    try:
        with locked(path, os.O_RDWR, wait=False):
            path.unlink()
            return True
    except (FileNotFoundError, BlockingIOError):
        return False
