"""Header of a run: its config, and what else is needed to open it and to go on with it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mechmem.core.files import LOCK, becomes, hash_of, read_json, without_hash, write_hashed
from mechmem.core.paths import check_place
from mechmem.core.roles import Roles
from mechmem.core.storage import decode, encode
from mechmem.core.task import Task
from mechmem.errors import MechmemError, RunDirectoryError
from mechmem.training.config import TrainConfig

FORMAT = 1
TWINS = "twins"
"""Folder of a run's twins, which are runs themselves."""
NAMES = ("config.json", "history.jsonl", "history.bits", "finished.json")
"""Files of a run directory."""
MOST_THREADS = 1024
"""More threads than a machine can start would end the process."""


@dataclasses.dataclass(frozen=True)
class Header:
    """Content of `config.json`.

    Attributes:
        config: the config; None for a run recorded in a user-written loop.
        settings: the config as it was written.
        task: digest of the task.
        threads: number of threads of the training.
        roles: roles of the network's parts, if the run was recorded in a user-written loop; None if they are not known.
        examples: number of examples of the task; None in runs of older versions.
        run: hash of all of this, which every other file of the run depends on.
        hashed: whether the run's files have hashes, as those of older versions do not.
        versions: version of mechmem, python and torch that the run was started with, as far as they are known.
    """

    config: TrainConfig | None
    settings: dict[str, Any] | None
    task: str
    threads: int
    roles: Roles | None
    examples: int | None
    run: str
    hashed: bool
    versions: Mapping[str, str]


def check_folder_of_runs(path: str | Path) -> None:
    """Check that a directory of runs or results can be written, and is no run itself.

    Raises:
        RunDirectoryError: nothing can be written there, or it is a run.
    """
    if (check_place(path) / NAMES[0]).exists():
        raise RunDirectoryError(f"out: {path} is a run, and what is written here would lie within it; choose another")


def read_header(path: Path) -> Header:
    """Read and check `config.json` of a run.

    Raises:
        RunDirectoryError: it is missing, empty, damaged, or of another format.
    """
    if not path.is_dir():
        raise RunDirectoryError(
            f"{path} is not a run directory: {'it is a file' if path.exists() else 'it does not exist'}"
        )
    file = path / "config.json"
    if not started(path):
        if not strangers(path):
            raise RunDirectoryError(f"{path} is empty, not a run directory")
        raise RunDirectoryError(f"{path} holds something else: there is no config.json in it")
    read = read_json(file)
    values = read if isinstance(read, dict) else {}
    settings, threads, examples = values.get("config"), values.get("threads"), values.get("examples")
    if (
        values.get("format") != FORMAT
        or not {"config", "threads", "task"} <= set(values)
        or type(threads) is not int
        or not 1 <= threads <= MOST_THREADS
        or not isinstance(settings, dict | None)
        or not isinstance(values["task"], str)
        or not (examples is None or (type(examples) is int and examples > 0))
    ):
        raise RunDirectoryError(f"{file} is not of run format {FORMAT}{_newer(values)}")
    config = None if settings is None else _config(path, values)
    roles = _roles(file, values.get("roles"))
    content, hashed = without_hash(file, values)
    return Header(
        config, settings, values["task"], threads, roles, examples, hash_of(content), hashed, _versions(values)
    )


def started(path: Path) -> bool:
    """Return whether there is a header in a directory, readable or not."""
    return os.path.lexists(path / "config.json")


def strangers(path: Path) -> list[str]:
    """Return the names in a directory, but for those of temporary files, locks, and twins.

    Twins may be trained before the run itself has begun.

    Raises:
        RunDirectoryError: the directory cannot be read.
    """
    try:
        return [each.name for each in path.iterdir() if each.name not in (LOCK, TWINS) and not becomes(each, *NAMES)]
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}") from error


def write_header(path: Path, config: TrainConfig | None, task: Task, roles: Roles) -> None:
    """Write the header of a new run directory."""
    values = {
        "format": FORMAT,
        "config": None if config is None else config.to_dict(),
        "digest": None if config is None else config.digest,
        "task": task.digest,
        "examples": len(task.ids),
        "threads": torch.get_num_threads(),
        "versions": {"mechmem": _version(), "python": platform.python_version(), "torch": torch.__version__},
    }
    if config is None:
        values["roles"] = encode(roles, {})
    write_hashed(path / "config.json", values)


def _config(path: Path, values: dict[str, Any]) -> TrainConfig:
    try:
        config = TrainConfig.from_dict(values["config"])
        changed = config.digest != values.get("digest")
    except (MechmemError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(f"{path} has a damaged config{_newer(values)}: {error}") from error
    if changed:
        raise RunDirectoryError(f"{path / 'config.json'} was changed after the run was started")
    return config


def _roles(file: Path, written: Any) -> Roles | None:
    if written is None:
        return None
    try:
        roles = decode(written, {})
    except (MechmemError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(f"{file} has damaged roles: {error}") from error
    if not isinstance(roles, Roles):
        raise RunDirectoryError(f"{file} has damaged roles")
    return roles


def _versions(values: dict[str, Any]) -> dict[str, str]:
    """Return the versions that a header names, on which nothing depends; none that are missing or damaged."""
    versions = values.get("versions")
    found = versions.items() if isinstance(versions, dict) else ()
    return {name: version for name, version in found if isinstance(version, str)}


def _newer(values: dict[str, Any]) -> str:
    """Return, for an error, which version wrote a header, if it was another one."""
    other = _versions(values).get("mechmem", _version())
    return f" (written by mechmem {other}; this is {_version()})" if other != _version() else ""


def _version() -> str:
    return importlib.metadata.version("mechmem")
