"""A sweep's directory: which cells and measurements it is of, and what of them is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mechmem.core import files
from mechmem.core.in_words import shown
from mechmem.core.locks import taken
from mechmem.errors import RunDirectoryError
from mechmem.pages.report import check_output
from mechmem.sweeps.grid import Cell, Plain, where
from mechmem.sweeps.measurements import Named

OURS = ("sweep.json", "table.parquet", "runs", "measurements", "failures", "claims", "slurm")
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Kept:
    """A measurement as it is kept.

    Attributes:
        name: its name in the table.
        folder: its folder in `measurements/`.
        kind: its kind.
        code: hash of a function's code; "" of everything that has a name of its own, and of older sweeps.
        values: hash of what a function reads besides the network; "" likewise.
    """

    name: str
    folder: str
    kind: str
    code: str = ""
    values: str = ""

    def differs(self, other: Kept) -> str:
        """Return in what another measurement of this name differs, as far as is known; "" if in nothing."""
        if self.kind != other.kind:
            return f"of the kind {self.kind}"
        if _differ(self.code, other.code):
            return "with other code"
        if _differ(self.values, other.values):
            return (
                "which read other values (its default arguments, what it closes over, the state of its object, or "
                "globals and functions that it uses)"
            )
        return ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a sweep's directory is of.

    Attributes:
        grid: names of the settings that vary.
        cells: values of each cell, by its run's digest.
        measurements: the measurements.
    """

    grid: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Plain]]
    measurements: tuple[Kept, ...]

    @classmethod
    def of(cls, cells: Sequence[Cell], measurements: Sequence[Named]) -> Listing:
        """Return what a directory of these cells and measurements is of."""
        kept = tuple(Kept(each.name, each.folder, each.kind, each.code, each.values) for each in measurements)
        return cls(tuple(cells[0].values), {cell.config.digest: cell.values for cell in cells}, kept)

    @classmethod
    def read(cls, folder: Path) -> Listing:
        """Read what a directory is of.

        Raises:
            RunDirectoryError: it holds no sweep, or a damaged one.
        """
        path = folder / "sweep.json"
        if not path.exists():
            raise RunDirectoryError(f"{folder} holds no sweep: it has no sweep.json")
        values, _ = files.without_hash(path, files.read_object(path))
        if values.get("format") != FORMAT:
            raise RunDirectoryError(f"{path} has format {shown(values.get('format'))}, and this version reads {FORMAT}")
        try:
            kept = tuple(Kept(**each) for each in values["measurements"])
            return cls(tuple(values["grid"]), {cell["run"]: cell["values"] for cell in values["cells"]}, kept)
        except (KeyError, TypeError) as error:
            raise RunDirectoryError(f"{path} is damaged: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        cells = [{"run": digest, "values": dict(values)} for digest, values in self.cells.items()]
        kept = [dataclasses.asdict(each) for each in self.measurements]
        return {"format": FORMAT, "grid": list(self.grid), "cells": cells, "measurements": kept}


def _differ(one: str, other: str) -> bool:
    """Return whether two hashes of one version of Python differ; those of several say nothing."""
    return one != other and one.partition(":")[0] == other.partition(":")[0]


def check_directory(folder: Path, listing: Listing) -> None:
    """Refuse a directory that holds something else, or a sweep with other cells. Nothing is written.

    Cells and measurements may be added to a sweep.

    Raises:
        RunDirectoryError: the message says what is different.
    """
    check_output(folder, OURS)
    if not (folder / "sweep.json").exists():
        named = next((name for name in OURS if (folder / name).exists()), None)
        if named is not None:
            raise RunDirectoryError(f"{folder} holds something else ({named} of no sweep); choose another directory")
        return
    found = Listing.read(folder)
    other = f"{folder} holds another sweep"
    if set(found.grid) != set(listing.grid):
        raise RunDirectoryError(
            f"{other}, of {_names(found.grid)} and not of {_names(listing.grid)}; choose another directory"
        )
    before = {each.name: each for each in found.measurements}
    for each in listing.measurements:
        measured = any((folder / "measurements" / each.folder).glob("*.json"))
        if measured and each.name in before and (how := before[each.name].differs(each)):
            other = f"{folder} holds another measurement {each.name!r}, {how}"
            raise RunDirectoryError(f"{other}: give this one another name, or choose another directory")
    strange = [values for digest, values in found.cells.items() if digest not in listing.cells]
    if strange:
        alike = next((values for values in listing.cells.values() if values == strange[0]), None)
        why = "was trained with other settings" if alike is not None else "is not in this grid"
        raise RunDirectoryError(
            f"{other}: its cell {where(strange[0]) or 'of one training'} {why}; choose another directory"
        )


def _names(grid: Sequence[str]) -> str:
    return " × ".join(grid) or "one training"


def open_directory(folder: Path, listing: Listing) -> Listing:
    """Create a sweep's directory, or add cells and measurements to it; return what it is then of.

    Raises:
        RunDirectoryError: it holds something else (see `check_directory`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    # One after the other: two sweeps may be started on one directory at the same instant.
    with taken(folder / files.LOCK, wait=True):
        check_directory(folder, listing)
        before = Listing.read(folder) if (folder / "sweep.json").exists() else listing
        names = [each.name for each in listing.measurements]
        kept = (*listing.measurements, *(each for each in before.measurements if each.name not in names))
        opened = dataclasses.replace(listing, measurements=kept)
        if not (folder / "sweep.json").exists() or opened != before:
            files.write_hashed(folder / "sweep.json", opened.to_json())
        for each in folder.glob("measurements/*"):
            files.sweep(each, "*.json")
        files.sweep(folder / "failures", "*.json")
    return opened
