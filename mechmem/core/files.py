"""Files: written whole or not at all, by one process at a time, and read without waiting or unbounded memory."""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import glob
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechmem.core.locks import locked
from mechmem.errors import RunDirectoryError, TrainingFailedError

MOST_BYTES = 2**26
"""Size of the largest JSON file that is read: 64 MB."""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
LOCK = ".lock"
HASH = "hash"
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush the file to disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, glob.escape(path.name))
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        # Locked while it is written, so that a sweep can tell it from what a killed process left.
        with locked(temporary, os.O_RDWR | os.O_CREAT):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, *names: str) -> None:
    """Delete temporary files that killed processes left in a directory, except those that are being written.

    Args:
        folder: the directory; it need not exist.
        names: names of the files that they were to become, or patterns such as "step_*.safetensors".
    """
    for path in left_over(folder, *names):
        # Another process may be writing or deleting it, or the directory may be read-only.
        with contextlib.suppress(OSError), locked(path, os.O_RDONLY, wait=False):
            path.unlink()


def left_over(folder: Path, *names: str) -> list[Path]:
    """Return the temporary files in a directory that were to become files of these names or patterns."""
    return [path for path in folder.iterdir() if becomes(path, *names)] if folder.is_dir() else []


def becomes(path: Path, *names: str) -> bool:
    """Return whether a path is of a temporary file that is to become a file of one of these names or patterns.

    It may have become it since the directory was listed.
    """
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and any(fnmatch.fnmatchcase(match[1], name) for name in names) and not path.is_dir()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Create a directory if it does not exist, and keep other processes from writing to it.

    The system releases the lock when the process ends, even if it is killed.

    Raises:
        RunDirectoryError: another process writes to the directory, or it is a file or cannot be created.
        TrainingFailedError: the disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise RunDirectoryError(f"{folder} holds something else: it is not a directory") from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    with contextlib.ExitStack() as held:
        # Network file systems lock nothing but files that are open for writing.
        for path, flags in ((folder, os.O_RDONLY), (folder / LOCK, os.O_RDWR | os.O_CREAT)):
            try:
                held.enter_context(locked(path, flags, wait=False))
                break
            except BlockingIOError as error:
                raise RunDirectoryError(f"{folder} is being written by another process") from error
            except OSError as error:
                if path != folder:
                    raise RunDirectoryError(f"cannot lock {folder}: {error.strerror}") from error
        yield


@contextlib.contextmanager
def written(path: str | Path) -> Iterator[None]:
    """Refuse a path to which the block fails to write.

    Raises:
        RunDirectoryError: it cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(f"cannot write to {path}: {error.strerror or error}") from error


def identity(folder: Path) -> tuple[int, int]:
    """Return what tells a directory from another one at the same path.

    Raises:
        OSError: there is none.
    """
    state = folder.stat()
    return state.st_dev, state.st_ino


def check_in_place(folder: Path, place: tuple[int, int], when: str) -> None:
    """Refuse to write to a path where another directory is than the one that was locked: somebody else may write there.

    Args:
        folder: the path.
        place: `identity` of the directory that was locked.
        when: for the message, e.g. "before step 3 could be written".

    Raises:
        TrainingFailedError: it was moved or replaced.
        OSError: there is nothing at the path any more.
    """
    if identity(folder) != place:
        raise TrainingFailedError(f"{folder} was moved or replaced {when}")


def is_full(error: BaseException | None) -> bool:
    """Return whether an error says that there is no room left to write."""
    return isinstance(error, OSError) and error.errno in FULL


def cannot_write(path: Path, error: OSError) -> RunDirectoryError | TrainingFailedError:
    """Return the error for a path that cannot be written: a full disk fails the run, anything else refuses it."""
    kind = TrainingFailedError if is_full(error) else RunDirectoryError
    return kind(f"cannot write to {path}: {error.strerror or error}")


def check_regular(path: Path, most: int | None = None) -> None:
    """Refuse what is not a file (a directory, a pipe, which would be waited for, or a device, which has no end).

    Args:
        path: the file.
        most: largest size in bytes; None for any.

    Raises:
        RunDirectoryError: it does not exist, is not a regular file, or is larger.
    """
    try:
        state = path.stat()
    except (OSError, ValueError) as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error
    if not stat.S_ISREG(state.st_mode):
        raise RunDirectoryError(f"cannot read {path}: it is not a regular file")
    if most is not None and state.st_size > most:
        raise RunDirectoryError(f"cannot read {path}: it has {state.st_size} bytes, more than the {most} allowed")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """Read a file.

    Raises:
        RunDirectoryError: it cannot be read, is not a regular file, or has more than `most` bytes.
    """
    check_regular(path, most)
    try:
        with path.open("rb") as file:
            return file.read(min(os.fstat(file.fileno()).st_size, most))
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never a part of it."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON; a value that is not finite is an error, not invalid JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunDirectoryError: the file is missing, truncated, too large, or not JSON.
    """
    try:
        return parse_json(read_bytes(path))
    except ValueError as error:
        raise RunDirectoryError(f"cannot read {path}: {error}") from error


def write_hashed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object with a hash of its content."""
    write_json(path, {**values, HASH: hash_of(values)})


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunDirectoryError: the file cannot be read, or is something else.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise RunDirectoryError(f"{path} is damaged: it is not a JSON object")
    return values


def without_hash(path: Path, values: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return a JSON object as it was given to `write_hashed`, and whether it had a hash.

    Raises:
        RunDirectoryError: the object does not match its hash.
    """
    content = {name: value for name, value in values.items() if name != HASH}
    try:
        changed = HASH in values and values[HASH] != hash_of(content)
    except RecursionError as error:
        raise RunDirectoryError(f"cannot read {path}: it is nested too deeply") from error
    if changed:
        raise RunDirectoryError(f"{path} was changed after the run was started: its content does not match its hash")
    return content, HASH in values


def hash_of(*parts: Any) -> str:
    """Return sixteen hexadecimal digits that depend on JSON values."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
