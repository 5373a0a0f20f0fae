"""Scorecard: extractors × splits, beside controls, label votes and held-out structure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from mechmem.core.export import latex
from mechmem.core.results import Result
from mechmem.core.stats import UNKNOWN, Estimate
from mechmem.core.storage import record
from mechmem.errors import unknown_name
from mechmem.plotting.accuracy import dot_plot
from mechmem.scorecard.rows import CONTROL_TITLES, Cell, Row
from mechmem.scorecard.structure import Structure
from mechmem.scorecard.terminal import laid_out, plain
from mechmem.scorecard.votes import LabelVote
from mechmem.scorecard.wording import finding, html_table, plain_table

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from rich.console import Group


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Scorecard(Result):
    """Accuracies that can be read out of a network, and evidence on whether they come from it or only from its labels.

    Attributes:
        name: the network's name.
        task: plain values that describe its task.
        chance: accuracy of a random guess, 1 / classes.
        rows: one row per extractor.
        votes: votes of the training labels, without any network.
        structure: the network's held-out structure.
        verdicts: one verdict per run.
    """

    name: str
    task: Mapping[str, Any]
    chance: float
    rows: tuple[Row, ...]
    votes: tuple[LabelVote, ...]
    structure: Structure
    verdicts: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The verdict of all runs if they agree, or "mixed"."""
        return self.verdicts[0] if len(set(self.verdicts)) == 1 else "mixed"

    @property
    def uncontrolled(self) -> list[str]:
        """Controls that are missing from every row to which they apply."""
        names = [name for name in CONTROL_TITLES if any(name in row.controls for row in self.rows)]
        cells = {name: [row.controls[name] for row in self.rows if name in row.controls] for name in names}
        return [name for name in names if all(cell.estimate is None for cell in cells[name])]

    def row(self, extractor: str) -> Row:
        """Return the row of an extractor.

        Raises:
            UnknownNameError: the extractor is not in the table.
        """
        rows = {row.extractor: row for row in self.rows}
        if extractor not in rows:
            raise unknown_name("row of this scorecard", extractor, rows)
        return rows[extractor]

    @property
    def sentence(self) -> str:
        """The finding as a sentence."""
        return finding(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per extractor: accuracies on the four splits, `n_test`, and `<control>_test` columns."""
        return pd.DataFrame([_flat(row) for row in self.rows])

    def intervals(self) -> pd.DataFrame:
        """Return one row per figure: extractor, series (a split or a control), value, low, high, n, reason."""
        records = []
        for row in self.rows:
            series = {**row.splits, **{CONTROL_TITLES[name]: cell for name, cell in row.controls.items()}}
            for name, cell in series.items():
                estimate = cell.estimate or UNKNOWN
                records.append({"extractor": row.extractor, "series": name, **dataclasses.asdict(estimate)})
                records[-1]["reason"] = cell.reason
        return pd.DataFrame(records)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: task, label vote, structure and rows."""
        structure = self.structure
        by_name = {vote.name: vote for vote in self.votes}
        return {
            "name": self.name,
            "task": dict(self.task),
            "chance": self.chance,
            "verdicts": list(self.verdicts),
            "sentence": self.sentence,
            "label_vote": {
                "test": _value(by_name["by answer"].test),
                "group_only_test": _value(by_name["by group"].test),
                "group_only_slope": by_name["by group"].slope,
            },
            "structure": {
                "S": _value(structure.S),
                "kappa": _value(structure.kappa),
                "Z": structure.Z,
                "heldout_vote": _value(structure.heldout_vote),
                "verdict": structure.verdict,
                "reason": structure.reason,
                "reference_kappa": structure.reference_kappa,
                "n_test": structure.n_test,
                "n_left_out": structure.n_left_out,
                "Z_unexplained": structure.Z_unexplained,
                "margin": structure.margin,
                "largest_other_S": structure.largest_other_S,
                "intervals": {name: _interval(getattr(structure, name)) for name in ("S", "kappa", "heldout_vote")},
            },
            "rows": [_flat(row) | {"intervals": _intervals(row), "reasons": _reasons(row)} for row in self.rows],
        }

    def to_latex(self, caption: str = "", label: str = "") -> str:
        """Return the accuracies as a LaTeX table (package booktabs), controls beside them.

        Args:
            caption: by default the finding.
            label: for references.
        """
        return latex(plain_table(self), caption or self.sentence, label)

    def plot(self) -> go.Figure:
        """Return the extractor × split dot plot with controls and intervals."""
        return dot_plot(self.intervals(), chance=self.chance).update_yaxes(title_text="extractor")

    def __repr__(self) -> str:
        extractors = ", ".join(row.extractor for row in self.rows)
        return f"Scorecard({self.name!r}, extractors {extractors}, verdict {self.verdict!r})"

    def __str__(self) -> str:
        return plain(self)

    def __rich__(self) -> Group:
        return laid_out(self)

    def _repr_html_(self) -> str:
        return html_table(self)


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _interval(estimate: Estimate | None) -> list[float] | None:
    if estimate is None or not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return None
    return [estimate.low, estimate.high]


def _cells(row: Row) -> dict[str, Cell]:
    return {**row.splits, **{f"{name}_test": cell for name, cell in row.controls.items()}}


def _flat(row: Row) -> dict[str, Any]:
    controls = {f"{name}_test": row.controls.get(name, Cell(None)).estimate for name in CONTROL_TITLES}
    return {
        "extractor": row.extractor,
        "knows": list(row.knows),
        **{split: _value(cell.estimate) for split, cell in row.splits.items()},
        "n_test": row.n_test,
        **{name: _value(estimate) for name, estimate in controls.items()},
    }


def _intervals(row: Row) -> dict[str, list[float] | None]:
    return {name: _interval(cell.estimate) for name, cell in _cells(row).items()}


def _reasons(row: Row) -> dict[str, str]:
    return {name: cell.reason for name, cell in _cells(row).items() if cell.reason}
