"""The table of a sweep: a row per cell and measurement, rebuilt from its directory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechmem.core.arguments import checked
from mechmem.core.paths import check_path
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.tables import Table, under_each_other
from mechmem.errors import ConfigError, unknown_name
from mechmem.plotting.phases import lines_over, phase_diagrams
from mechmem.sweeps.directory import Listing
from mechmem.sweeps.jobs import Place, read_rows, warn_unless
from mechmem.sweeps.measurements import HEADLINES, numbers_of, said_in

if TYPE_CHECKING:
    import plotly.graph_objects as go

SEED = "seed"
NOT_DONE = "not done yet"
"""Reason of a cell that neither failed nor is done."""
NUMBERS = ("quantity", "value", "low", "high")


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Sweep(Result):
    """Measurements of many networks.

    Attributes:
        name: name of the sweep's directory.
        grid: names of the settings that vary, in order.
        kinds: kind of each measurement, by its name.
        cells: one row per cell: the grid's names as columns, and `run`, the name of its directory.
        numbers: one row per number that was measured: run, measurement, quantity, value, low, high.
        tables: the whole table of each measurement, by its name, with `run` as the first column.
        reasons: one row per cell that failed or is not done: run, reason.
    """

    name: str
    grid: tuple[str, ...]
    kinds: Mapping[str, str]
    cells: Table
    numbers: Table
    tables: Mapping[str, Table]
    reasons: Table

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell and measurement: the grid's names, run, measurement, the number, reason.

        The number (columns quantity, value, low, high) is the test accuracy of an extractor, κ of "structure", the
        agreement of "discover_rule", the mean of a score, and the first number of anything else; `quantities` names
        the others, and `frame` has them all. `verdict` is that of "structure", or the group of "discover_rule".
        `reason` says why there is no number, or is "".
        """
        cells, numbers = self.cells.frame(), self.numbers.frame()
        reasons = dict(self.reasons.frame().itertuples(index=False, name=None))
        shown = _headlines(numbers, self.kinds)
        said = {name: _said(table.frame()) for name, table in self.tables.items()}
        rows = []
        for cell in cells.to_dict("records"):
            for name in self.kinds:
                found = shown.get((cell["run"], name), dict.fromkeys(NUMBERS[1:], math.nan) | {"quantity": ""})
                verdict, why = said[name].get(cell["run"], ("", ""))
                why = why or reasons.get(cell["run"], "") * (cell["run"] not in said[name])
                rows.append({**cell, "measurement": name, **found, "verdict": verdict, "reason": why})
        return pd.DataFrame(rows, columns=[*cells.columns, "measurement", *NUMBERS, "verdict", "reason"])

    @checked
    def frame(self, measurement: str) -> pd.DataFrame:
        """Return the whole table of a measurement, with the grid's names before its own columns.

        Raises:
            UnknownNameError: it was not measured.
        """
        table = self.tables[self._known(measurement)].frame()
        own = table.rename(columns={name: f"own_{name}" for name in self.grid})
        return self.cells.frame().merge(own, on="run", how="inner", sort=False)

    @checked
    def quantities(self, measurement: str) -> list[str]:
        """Return the names of what a measurement found, e.g. "test" of an extractor, or "verdict" of "structure".

        Raises:
            UnknownNameError: it was not measured.
        """
        numbers = self.numbers.frame()
        found = numbers.loc[numbers["measurement"] == self._known(measurement), "quantity"]
        return [*dict.fromkeys(found), *self._words(measurement)]

    def _known(self, measurement: str) -> str:
        if measurement not in self.kinds:
            raise unknown_name("measurement", measurement, self.kinds)
        return measurement

    @checked
    def plot(self, x: str = "", y: str = "", color: str = "") -> go.Figure:
        """Return a phase diagram, or lines; settings that vary besides are panels, and seeds are averaged over.

            sweep.plot(x="label_noise", y="weight_decay", color="raw")
            sweep.plot(x="label_noise", y="weight_decay", color="structure:verdict")
            sweep.plot(x="label_noise", y="structure:S", color="weight_decay")

        Args:
            x: a name of the grid; by default the first that varies and is not the seed.
            y: another one, for a phase diagram; or a measurement (or "measurement:quantity"), for lines.
            color: for a phase diagram the measurement (or "measurement:quantity"), by default the first, also in words
                ("structure:verdict", "inversion_phase:phase"); for lines a name of the grid.

        Raises:
            UnknownNameError: there is no such name; the message suggests the nearest.
            ConfigError: there is nothing to draw along x, lines of words, or more panels or words than can be read.
        """
        cells = self.cells.frame()
        varied = [name for name in self.grid if len(set(cells[name])) > 1] or list(self.grid)
        settings = [name for name in varied if not _is_seed(name)] or varied
        if not settings:
            raise ConfigError("the sweep has one cell: there is nothing to draw it along; use to_frame()")
        if not self.kinds:
            raise ConfigError("nothing was measured, so there is nothing to draw")
        given = [name for name in (x, y, color) if name]
        if len(set(given)) < len(given):
            raise ConfigError(f"x, y and color must be different, got {', '.join(map(repr, given))}")
        x = x or next((name for name in (*settings, *self.grid) if name not in (y, color)), "")
        if not x:
            raise ConfigError(f"there is no setting left for x beside {', '.join(map(repr, given))}")
        self._check(x, settings_only=True)
        rest = [name for name in settings if name not in (x, color)]
        first = next(iter(self.kinds))
        y = y or (rest[0] if rest and color not in self.grid else first)
        self._check(y)
        diagram = y in self.grid
        color = color or (first if diagram else (rest or [""])[0])
        if color:
            self._check(color)
        if color and diagram == (color in self.grid):
            raise ConfigError(
                f"one of y and color is a name of the grid, the other a measurement; got {y!r} and {color!r}"
            )
        measured, series = (color, y) if diagram else (y, color)
        rows = self._values(measured)
        if not diagram and rows["value"].dtype == object:
            raise ConfigError(f"{measured!r} is in words, which have no lines: give two settings for x and y")
        rows = rows.merge(cells, on="run", sort=False)
        panels = [name for name in settings if name not in (x, series)]
        draw = phase_diagrams if diagram else lines_over
        kind = self.kinds[measured.partition(":")[0]]
        bounds = (0, 1) if kind == "extractor" else None
        return draw(cells, rows, x, series, panels, title=_axis(measured, kind), bounds=bounds)

    def _check(self, name: str, *, settings_only: bool = False) -> None:
        known = [*self.grid, *(() if settings_only else self.kinds)]
        measurement, _, quantity = name.partition(":")
        if name in known:
            return
        if settings_only or measurement not in self.kinds:
            raise unknown_name("setting" if settings_only else "setting or measurement", measurement, known)
        if quantity not in (names := self.quantities(measurement)):
            raise unknown_name(f"quantity of {measurement!r}", quantity, names)

    def _words(self, measurement: str) -> dict[str, dict[str, str]]:
        """Return what a measurement says in words of each run, by column and run."""
        words: dict[str, dict[str, str]] = {}
        for run, table in self.tables[measurement].frame().groupby("run", sort=False):
            for name, word in said_in(table).items():
                words.setdefault(name, {})[str(run)] = word
        return words

    def _values(self, measured: str) -> pd.DataFrame:
        measurement, _, quantity = measured.partition(":")
        numbers = self.numbers.frame()
        numbers = numbers.loc[numbers["measurement"] == measurement]
        if quantity in (words := self._words(measurement) if quantity else {}):
            return pd.DataFrame(words[quantity].items(), columns=["run", "value"], dtype=object)
        if quantity:
            return numbers.loc[numbers["quantity"] == quantity, ["run", "value"]]
        found = _headlines(numbers, self.kinds)
        return pd.DataFrame({"run": [run for run, _ in found], "value": [each["value"] for each in found.values()]})


def _is_seed(name: str) -> bool:
    return name.rpartition(".")[2] == SEED


def _axis(measured: str, kind: str) -> str:
    measurement, _, quantity = measured.partition(":")
    quantity = (quantity or HEADLINES.get(kind, "")).replace("_", " ")
    named = f"{measurement}: {quantity}" if quantity else measurement
    return f"{named} accuracy" if kind == "extractor" else named


def _headlines(numbers: pd.DataFrame, kinds: Mapping[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the number that stands for each measurement of each run."""
    wanted = [HEADLINES.get(kinds[name], "") for name in numbers["measurement"]]
    standing = [name in ("", quantity) for name, quantity in zip(wanted, numbers["quantity"], strict=True)]
    chosen = numbers.loc[standing].drop_duplicates(["run", "measurement"])
    return {(row["run"], row["measurement"]): {key: row[key] for key in NUMBERS} for row in chosen.to_dict("records")}


def _said(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Return verdict and reason of each run that was measured."""
    first = table.drop_duplicates("run").reindex(columns=["run", "verdict", "reason"])
    words = first.astype(object).where(first.notna(), "")
    return {run: (str(verdict), str(reason)) for run, verdict, reason in words.itertuples(index=False, name=None)}


@checked
def load_sweep(path: str | Path) -> Sweep:
    """Open a sweep as far as it has come, also while it runs.

        mm.load_sweep("sweeps/noise").plot(x="label_noise", y="structure:S")

    Raises:
        RunDirectoryError: the directory holds no sweep, or something in it is damaged.

    Warns:
        UncheckedWarning: a table has no hash.
    """
    check_path(path, "path")
    folder = Path(path)
    return table_of(folder, Listing.read(folder))


def table_of(folder: Path, listing: Listing, names: Sequence[str] | None = None) -> Sweep:
    """Build a sweep's table from its directory.

    Args:
        folder: the directory.
        listing: what it is of.
        names: names of the measurements in the table; by default all.
    """
    place = Place(folder)
    kept = [each for each in listing.measurements if names is None or each.name in names]
    numbers: list[dict[str, Any]] = []
    tables: dict[str, Table] = {}
    unmeasured: set[str] = set() if kept else {run for run in listing.cells if not place.run(run).exists()}
    hashed = True
    for each in kept:
        parts = []
        for run in listing.cells:
            path = place.measured(each, run)
            if not path.exists():
                unmeasured.add(run)
                continue
            frame, checked_too = read_rows(path)
            hashed = hashed and checked_too
            frame = frame.rename(columns={"run": "own_run"})
            frame.insert(0, "run", run)
            parts.append(frame)
            shared = {"run": run, "measurement": each.name}
            numbers += [shared | one for one in numbers_of(frame.drop(columns="run"))]
        tables[each.name] = Table.of(under_each_other(parts) if parts else pd.DataFrame({"run": pd.Series(dtype=str)}))
    warn_unless(hashed, folder / "measurements")
    cells = pd.DataFrame([{**values, "run": run} for run, values in listing.cells.items()])
    reasons = {run: place.why(run) or NOT_DONE for run in listing.cells if run in unmeasured}
    columns = ["run", "measurement", *NUMBERS]
    return Sweep(
        folder.name,
        listing.grid,
        {each.name: each.kind for each in kept},
        Table.of(cells),
        Table.of(pd.DataFrame(numbers, columns=columns).astype(dict.fromkeys(NUMBERS[1:], float))),
        tables,
        Table.of(pd.DataFrame(reasons.items(), columns=["run", "reason"], dtype=object)),
    )
