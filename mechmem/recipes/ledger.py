"""Ledger of a paper's claims: experiment, figures and verdict of each."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechmem.core.export import embedded, latex, write_html
from mechmem.core.results import Saved
from mechmem.core.stats import UNKNOWN, Estimate
from mechmem.core.storage import record
from mechmem.recipes.claims import Claim, Recipe, Scale, Trial, Verdict
from mechmem.recipes.conditions import LOOKS, Finding
from mechmem.recipes.trials import measurements


@record
@dataclasses.dataclass(frozen=True)
class Entry:
    """Result of one claim.

    Attributes:
        key: the claim's short name.
        statement: the claim in one line.
        experiment: the runs and the measurement.
        paper: the paper's own figure, or "".
        verdict: "reproduced", "not reproduced", "not at this scale", "undecided", "pending" or "not judged" (see
            `Claim.judge`).
        reason: reason for the verdict if it is not "reproduced", or "".
        findings: premises and conditions, with the measured means and intervals.
        seeds: number of seeds behind each figure.
        runs: digests of its runs' configs; each run is in the folder of that name.
    """

    key: str
    statement: str
    experiment: str
    paper: str
    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...] = ()
    seeds: int = 0
    runs: tuple[str, ...] = ()


@record
@dataclasses.dataclass(frozen=True)
class Ledger(Saved):
    """Results of a paper's claims at one scale.

    Attributes:
        recipe: the recipe's name.
        title: the paper.
        source: its authors, year and identifier.
        scale: "smoke", "small" or "paper".
        caveats: deviations from the paper's settings.
        entries: one per claim, in the paper's order.
        seconds: total wall time of the calls that produced it.
        versions: package versions by name.
    """

    recipe: str
    title: str
    source: str
    scale: Scale
    caveats: tuple[str, ...]
    entries: tuple[Entry, ...]
    seconds: float
    versions: dict[str, str]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per condition: claim, verdict, condition, value, low, high, n, outcome, and so on.

        low and high are the ends of the 95 % interval, decided_low and decided_high those of the wider one that
        decides, at_first the outcome of the first three seeds by their 95 % interval, paper the paper's own figure. A
        claim without conditions (pending) has one row, with NaN for the figures.
        """
        rows = []
        for entry in self.entries:
            shared = {"claim": entry.key, "verdict": entry.verdict}
            for finding in entry.findings or (Finding("", None, "undecided"),):
                figures = dataclasses.asdict(finding.estimate or UNKNOWN)
                figures |= {"decided_low": finding.low, "decided_high": finding.high}
                outcome = finding.outcome if entry.findings else ""
                said = {"outcome": outcome, "at_first": finding.at_first, "paper": entry.paper}
                rows.append({**shared, "condition": finding.condition, **figures, **said})
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; the interval of a single seed is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(inner) for key, inner in value.items()}
            if isinstance(value, list | tuple):
                return [plain(inner) for inner in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return plain(dataclasses.asdict(self))

    def to_latex(self, caption: str = "", label: str = "") -> str:
        """Return claims, verdicts and measured figures as a LaTeX table (package booktabs), a line per condition.

        Args:
            caption: by default the paper.
            label: for references.
        """
        rows = [
            {"claim": "" if place else entry.key, "condition": finding, "verdict": "" if place else entry.verdict}
            for entry in self.entries
            for place, finding in enumerate(map(ours, entry.findings))
        ]
        return latex(pd.DataFrame(rows, columns=["claim", "condition", "verdict"]), caption or self.title, label)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(entry.key)}</td><td>{html.escape(entry.statement)}</td>"
            f"<td><b>{entry.verdict}</b></td><td>{'<br>'.join(html.escape(ours(f)) for f in entry.findings)}</td></tr>"
            for entry in self.entries
        )
        head = "<tr><th>claim</th><th></th><th>verdict</th><th>ours: mean [95 % interval]</th></tr>"
        return f"<table>{head}{rows}</table>"


def ours(finding: Finding) -> str:
    """Write a condition with its measured value, e.g. "test [wd 0] ≥ 0.9: .987 [.981, .993] (n = 5), holds"."""
    if finding.estimate is None:
        return f"{finding.condition}: {finding.reason}"
    # A single seed has no interval to decide by.
    outcome = f", {finding.outcome}" if finding.estimate.n > 1 else ""
    return f"{finding.condition}: {mean_with_interval(finding.estimate)}{outcome}{before(finding)}"


def before(finding: Finding) -> str:
    """Write what the first three seeds said by their own interval, where that is something else."""
    differs = finding.at_first and finding.estimate is not None and finding.at_first != finding.outcome
    return f" (first three seeds: {finding.at_first})" if differs else ""


def mean_with_interval(estimate: Estimate) -> str:
    """Write a mean with its interval and the number of seeds."""
    interval = f" [{estimate.low:.3f}, {estimate.high:.3f}]" if math.isfinite(estimate.low) else ""
    return f"{estimate.value:.3f}{interval} (n = {estimate.n})"


def entry_of(
    claim: Claim, scale: Scale, trials: Sequence[Trial], table: pd.DataFrame | None, failure: str = ""
) -> Entry:
    """Judge a claim.

    Args:
        claim: the claim.
        scale: the scale.
        trials: the runs that were measured.
        table: its measurements (columns `claims.COLUMNS`), or None.
        failure: reason why one of its runs failed, or "".
    """
    # The text of an experiment gives the figures of the small scale.
    note = "" if scale == "small" or not claim.experiment else " (at the small scale)"
    shared = (claim.key, claim.statement, claim.experiment + note, claim.paper)
    if failure:
        return Entry(*shared, "not judged", failure)
    measured = pd.DataFrame() if table is None else table
    verdict, reason, findings = claim.judge(measured, scale)
    seeds = min((len({t.config.seed for t in trials if t.arm == arm}) for arm in {t.arm for t in trials}), default=0)
    return Entry(*shared, verdict, reason, findings, seeds, tuple(dict.fromkeys(t.config.digest for t in trials)))


def measured(ledger: Ledger, recipe: Recipe, folder: Path) -> dict[str, pd.DataFrame]:
    """Load the measurements behind every entry with runs (columns `claims.COLUMNS`), by the claim's key.

    Args:
        ledger: the judged claims.
        recipe: its recipe.
        folder: the reproduction's directory.

    Raises:
        RunDirectoryError: a file is missing or damaged.
    """
    claims = {entry.key: recipe.claim(entry.key) for entry in ledger.entries if entry.runs}
    runs = {entry.key: claims[entry.key].runs(ledger.scale, entry.seeds) for entry in ledger.entries if entry.runs}
    return {key: measurements(claim, runs[key], folder) for key, claim in claims.items()}


def write_page(ledger: Ledger, recipe: Recipe, tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write a ledger's page with the paper's figures.

    Args:
        ledger: the judged claims.
        recipe: the recipe, which draws the figures.
        tables: each claim's measurements by its key, where it has any.
        path: the page.
    """
    drawn: dict[str, str | None] = {}
    for entry in ledger.entries:
        claim, table = recipe.claim(entry.key), tables.get(entry.key)
        figure = None if claim.draw is None or table is None else claim.draw(table)
        drawn[entry.key] = None if figure is None else embedded(figure, claim.statement)
    lay_out(ledger, drawn, path)


def lay_out(ledger: Ledger, drawn: Mapping[str, str | None], path: Path) -> None:
    """Write a ledger's page.

    Args:
        ledger: the judged claims.
        drawn: each claim's figure, as part of a page, by its key.
        path: the page.
    """
    said = ", ".join(map(str, LOOKS[:-1])) + f" and {LOOKS[-1]}"
    shown = {"figures": _figures, "interval": _interval, "before": before, "looks": said}
    write_html("ledger.html", path, ledger=ledger, drawn=drawn, **shown)


def _figures(finding: Finding) -> str:
    return finding.reason if finding.estimate is None else mean_with_interval(finding.estimate)


def _interval(finding: Finding) -> str:
    return f"[{finding.low:.3f}, {finding.high:.3f}]" if math.isfinite(finding.low) else ""
