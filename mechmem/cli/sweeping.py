"""What the commands of `sweeps` do: train, measure, show the table, write the figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from mechmem.cli.sweeps import Sweeping, SweepTable
from mechmem.errors import ConfigError, TrainingFailedError
from mechmem.sweeps.grid import Cell, parsed

Write = Callable[[str], None]


def run_sweep(command: Sweeping, cells: list[Cell], write: Write) -> None:
    """Train and measure the cells, and show the table.

    Args:
        command: the parsed command.
        cells: its cells.
        write: prints a line of results.

    Raises:
        TrainingFailedError: a cell failed; the others are done.
        MechmemError: see `mechmem.sweeps.sweep.sweep`.
    """
    from mechmem.cli.terminal import console, result_table
    from mechmem.sweeps.measurements import named
    from mechmem.sweeps.sweep import run_cells
    from mechmem.sweeps.table import NOT_DONE

    if command.out is None:
        raise ConfigError("--out is missing: the directory of the sweep")
    if "none" in command.measure and len(command.measure) > 1:
        raise ConfigError("--measure none is to train only: it stands alone")
    measurements = [] if command.measure == ("none",) else named(list(command.measure or ("raw",)))
    found = run_cells(
        cells,
        measurements,
        command.out,
        engine=command.engine or "local",
        workers=command.workers,
        settings=engine_settings(command.engine_settings),
        share=None if not command.array else share(command.array),
        device=command.device,
        progress=not command.quiet,
    )
    frame, reasons = found.to_frame(), found.reasons.frame()
    failed = reasons.loc[reasons["reason"] != NOT_DONE]
    if command.json:
        rows = json.loads(str(frame.to_json(orient="records")))
        write(json.dumps({"sweep": str(command.out), "cells": len(cells), "failed": len(failed), "rows": rows}))
    elif not command.quiet:
        console().print(result_table(found))
        write(f"Table: {command.out / 'table.parquet'}" if not command.array else f"Share {command.array} is done")
    if len(failed):
        first = failed.iloc[0]
        raise TrainingFailedError(
            f"{len(failed)} of {len(cells)} cells failed, run {first['run']} with: {first['reason']}. The same command "
            f"tries them again"
        )


def show_sweep(command: SweepTable, write: Write) -> None:
    """Show a sweep's table, and write the figure.

    Raises:
        RunDirectoryError: the directory holds no sweep, or the file cannot be written.
        MechmemError: see `mechmem.sweeps.table.Sweep.plot`.
    """
    from mechmem.cli.terminal import console, result_table
    from mechmem.core.export import export
    from mechmem.core.files import written
    from mechmem.sweeps.table import load_sweep

    found = load_sweep(command.sweep)
    figure = None
    if command.out is not None or command.x or command.y or command.color:
        figure = found.plot(command.x, command.y, command.color)
    if command.json:
        rows = json.loads(str(found.to_frame().to_json(orient="records")))
        write(json.dumps({"sweep": str(command.sweep), "rows": rows}))
    elif not command.quiet:
        console().print(result_table(found))
    if command.out is not None and figure is not None:
        with written(command.out):
            export(found, command.out, figure=figure)
        if not command.json and not command.quiet:
            write(f"Written: {command.out}")


def engine_settings(given: tuple[str, ...]) -> dict[str, Any]:
    """Return settings of an engine by name.

    Raises:
        ConfigError: one is not name=value.
    """
    found: dict[str, Any] = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not name or not value:
            raise ConfigError(f"--engine-settings takes name=value, e.g. address=tcp://head:8786, got {each!r}")
        found[name] = value if ":" in value or "," in value else parsed(value)[0]
    return found


def share(text: str) -> tuple[int, int]:
    """Return the part that a task does.

    Raises:
        ConfigError: it is not i/n.
    """
    number, sign, count = text.partition("/")
    if not sign or not number.strip().isdecimal() or not count.strip().isdecimal():
        raise ConfigError(f"--array takes i/n, e.g. 0/8, got {text!r}")
    return int(number), int(count)
