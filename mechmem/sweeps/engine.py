"""Engines: what runs jobs, in processes of this machine or on a cluster."""

from __future__ import annotations

import abc
import dataclasses
import functools
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mechmem.core.config import check_whole
from mechmem.errors import MechmemError, MissingNeedError, unknown_name
from mechmem.sweeps.jobs import Job, Outcome

Call = Callable[[Job], Outcome]


class EngineError(MechmemError):
    """An engine lost processes; what they were working on can be done again."""


@dataclasses.dataclass(frozen=True)
class Engine(abc.ABC):
    """Base class of engines; one per file of `engines/`.

    Attributes:
        asked: number of processes that are to work at the same time, one thread each; None for `slots`.
        folder: the sweep's directory.
        settings: settings of the engine, by name.
    """

    name: ClassVar[str]
    needs: ClassVar[Mapping[str, str]] = {}
    """Packages that it imports, and the extra of mechmem that brings them."""
    known: ClassVar[tuple[str, ...] | None] = ()
    """Names of its settings; None if it passes on whatever it is given."""

    asked: int | None
    folder: Path
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @abc.abstractmethod
    def count_slots(self) -> int:
        """Count the processes that can work at the same time."""

    @functools.cached_property
    def slots(self) -> int:
        """Number of processes that can work at the same time."""
        return self.count_slots()

    @functools.cached_property
    def workers(self) -> int:
        """Number of processes that work at the same time.

        Raises:
            MissingNeedError: no number was asked for, and the cluster has no workers.
        """
        if self.asked is None and not self.slots:
            raise MissingNeedError(
                f"engine {self.name!r}: the cluster has no workers; start some, or say how many will come (workers)"
            )
        return self.slots if self.asked is None else self.asked

    def check(self) -> None:
        """Refuse what cannot run, before anything is written.

        Raises:
            MissingNeedError: its package is not installed, or its cluster is not running.
            UnknownNameError: there is no such setting.
            ConfigError: there are far more workers than the machine has processors.
        """
        for package, extra in self.needs.items():
            if importlib.util.find_spec(package) is None:
                raise MissingNeedError(f'engine {self.name!r} needs {package}: pip install "mechmem[{extra}]"')
        known = tuple(self.settings) if self.known is None else self.known
        for setting in self.settings:
            if setting not in known:
                raise unknown_name(f"setting of engine {self.name!r}", setting, known)

    @abc.abstractmethod
    def run(self, call: Call, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Yield the outcome of each job as it ends; if the generator is closed, what runs is interrupted.

        Args:
            call: does a job; it can be pickled.
            jobs: the jobs, in the order in which they are to be begun.

        Raises:
            EngineError: processes died, and some jobs were not done.
        """

    def in_words(self) -> str:
        """Write on what it runs, e.g. "2 processes of one thread each"."""
        return "1 process of one thread" if self.workers == 1 else f"{self.workers} processes of one thread each"


def engines() -> dict[str, type[Engine]]:
    """Return every engine by name."""
    package = importlib.import_module("mechmem.sweeps.engines")
    modules = [
        importlib.import_module(f"{package.__name__}.{each.name}") for each in pkgutil.iter_modules(package.__path__)
    ]
    return {module.ENGINE.name: module.ENGINE for module in modules}


def engine(name: str, workers: int | None, folder: Path, settings: Mapping[str, Any]) -> Engine:
    """Return the engine of this name, which can run.

    Raises:
        UnknownNameError: there is no such engine or setting.
        ConfigError: the number of workers is not a positive whole number, or far too great for the machine.
        MissingNeedError: its package is not installed, or its cluster is not running.
    """
    if workers is not None:
        check_whole("number of workers", workers, 1)
    known = engines()
    if name not in known:
        raise unknown_name("engine", name, known)
    made = known[name](workers, folder, dict(settings))
    made.check()
    return made
