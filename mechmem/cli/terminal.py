"""Scorecards, ledgers and plugin lists on a terminal, within 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mechmem.analyses.discover_rule import DiscoveredRule
from mechmem.cli.lines import UnreadError
from mechmem.core.plugins import KINDS, plugins
from mechmem.core.results import Result
from mechmem.examples.detection import Detection, below_chance
from mechmem.examples.table import ExampleTable
from mechmem.math.detection import FIGURES
from mechmem.recipes.ledger import Entry, Ledger, ours
from mechmem.recipes.trials import recipes
from mechmem.scorecard.wording import percent_with_interval
from mechmem.training.progress import SizedConsole

MOST_ROWS = 40
"""Rows of a table on the terminal."""


class ResultConsole(SizedConsole):
    """Standard output, for results; without a reader there is nothing left to do."""

    def on_broken_pipe(self) -> None:
        """Raise the error, which the command line turns into its exit status."""
        raise UnreadError


def console() -> SizedConsole:
    """Return the console for results."""
    return ResultConsole()


def examples_table(
    table: ExampleTable, quality: Detection | None, reason: str, most: Mapping[str, Sequence[int]]
) -> RenderableType:
    """Lay out scores of examples: how well each finds wrong labels, and the ids of the most suspect examples.

    Args:
        table: the scores.
        quality: how well they find wrong labels, or None.
        reason: why `quality` is None, or "".
        most: the most suspect ids of each score.
    """
    rows = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    rows.add_column("score", no_wrap=True)
    for title in ("AUROC [95 %]", "average precision", "precision"):
        rows.add_column(title, justify="right")
    frame = None if quality is None else quality.to_frame().set_index(["score", "figure"])
    for name in table.scores if frame is not None else ():
        figures = (frame.loc[(name, figure)] for figure in FIGURES)  # pyright: ignore[reportOptionalMemberAccess]
        rows.add_row(name, *(f"{each['value']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for each in figures))
    lines = []
    for name, ids in most.items():
        remark = below_chance(table, name)
        lines.append(f"{name}: {', '.join(map(str, ids))}{f' ({remark})' if remark else ''}")
    notes = [f"{name}: {each.note}" for name, each in table.scores.items() if each.note]
    notes += [f"no {name}: {why}" for name, why in table.reasons.items()]
    head = f"{len(table.ids)} training examples"
    head += "" if quality is None else f", {quality.noisy} wrongly labelled; how well each score finds them\n"
    shown = rows if quality is not None else Text(f"; {reason}\n")
    parts: list[RenderableType] = [Text(head, style="bold"), shown, Text("\nmost suspect, by id", style="bold")]
    return Group(*parts, Text("\n".join(lines)), Text("\n".join(notes), style="dim"))


def discovery(rule: DiscoveredRule) -> RenderableType:
    """Lay out a discovered rule: the sentence, and the facts behind it."""
    found = rule.found
    facts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_row("rows, columns without a repeat", f"{found.latin_rows:.1%}, {found.latin_columns:.1%}")
    facts.add_row("quadrangles that agree", f"{found.quadrangles:.1%}, by chance {found.quadrangles_null:.1%}")
    if found.kind == "group":
        orders = ", ".join(f"{count} of order {order}" for order, count in found.orders.items())
        facts.add_row("elements", orders)
        facts.add_row("pairs that commute; centre", f"{found.commuting:.1%}; {found.centre} of {found.order}")
    if rule.noise_left is not None:
        facts.add_row("wrong labels still in the table", percent_with_interval(rule.noise_left))
    return Group(Text(rule.sentence, style="bold"), Text(), facts)


def result_table(result: Result) -> RenderableType:
    """Lay out a result: its sentence, if it has one, and of its table what fits; the rest is counted.

    Columns without a value are left out.
    """
    frame = result.to_frame().dropna(axis=1, how="all")
    cells = {str(name): [_cell(value) for value in frame[name].head(MOST_ROWS)] for name in frame.columns}
    widths = np.cumsum([max(map(len, (name, *column))) + 1 for name, column in cells.items()])
    shown = max(1, int((widths <= console().width).sum()))
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in list(cells)[:shown]:
        table.add_column(name, justify="right" if is_numeric_dtype(frame[name]) else "left", no_wrap=True)
    for row in zip(*list(cells.values())[:shown], strict=True):
        table.add_row(*row)
    more = {"row": len(frame) - MOST_ROWS, "column": len(cells) - shown}
    rest = " and ".join(f"{count:,} {what}{'s' * (count > 1)}" for what, count in more.items() if count > 0)
    sentence = getattr(result, "sentence", "")
    parts: list[RenderableType] = [Text(sentence, style="bold"), Text()] if sentence else []
    return Group(*parts, table, *([Text(f"… {rest} more: --out table.csv has all", style="dim")] if rest else []))


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


VERDICT_STYLES = {"reproduced": "green", "not reproduced": "red", "not at this scale": "yellow", "undecided": "yellow"}


def entry_lines(entry: Entry) -> RenderableType:
    """Lay out one claim of a ledger: verdict, statement, and every condition with the measured value."""
    head = Text.assemble(
        (entry.verdict, f"bold {VERDICT_STYLES.get(entry.verdict, 'dim')}"), "  ", (entry.key, "bold"), "\n"
    )
    head.append(entry.statement)
    parts: list[RenderableType] = [head]
    parts += [Padding(Text(ours(finding)), (0, 0, 0, 4)) for finding in entry.findings]
    if entry.paper:
        parts.append(Padding(Text(f"the paper: {entry.paper}", style="dim"), (0, 0, 0, 4)))
    if entry.reason and entry.verdict not in ("not judged", "reproduced"):
        parts.append(Padding(Text(entry.reason, style="dim"), (0, 0, 0, 4)))
    return Group(*parts, Text())


def ledger_summary(ledger: Ledger) -> RenderableType:
    """Lay out a ledger: one line per claim, and the number of claims per verdict."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("claim", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("")
    for entry in ledger.entries:
        verdict = Text(entry.verdict, style=VERDICT_STYLES.get(entry.verdict, "dim"))
        table.add_row(entry.key, verdict, entry.statement)
    counts = Counter(entry.verdict for entry in ledger.entries)
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    title = Text.assemble((ledger.title, "bold"), f"\n{ledger.source}; scale {ledger.scale}\n")
    return Group(title, table, Text(f"\n{total} ({ledger.seconds / 60:.0f} min)"))


def plugin_rows() -> list[dict[str, Any]]:
    """Return what `mechmem list` says of every plugin and recipe."""
    rows = [
        {
            "kind": kind,
            "name": name,
            "aliases": list(cls.aliases),
            "summary": (cls.__doc__ or "").strip().splitlines()[0],
            "knows": sorted(cls.knows),
            "cites": cls.cites,
        }
        for kind in KINDS
        for name, cls in sorted(plugins(kind).items())
        if name == cls.name
    ]
    return rows + [
        {"kind": "recipes", "name": name, "aliases": [], "summary": found.title, "knows": None, "cites": found.source}
        for name, found in sorted(recipes().items())
    ]


def plugin_list(rows: list[dict[str, Any]]) -> RenderableType:
    """Lay out the plugins of `mechmem list`, a paragraph each."""
    parts: list[RenderableType] = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        parts.append(Text(kind.replace("_", " "), style="bold underline"))
        for row in (row for row in rows if row["kind"] == kind):
            also = f"also {', '.join(row['aliases'])}\n" if row["aliases"] else ""
            known = "" if row["knows"] is None else f"knows: {', '.join(row['knows']) or 'nothing'}\n"
            about = f"{also}{known}source: {row['cites']}"
            parts.append(Padding(Text(row["name"], style="bold"), (0, 0, 0, 2)))
            parts.append(Padding(Text(row["summary"]), (0, 0, 0, 4)))
            parts.append(Padding(Text(about, style="dim"), (0, 0, 0, 4)))
    return Group(*parts)
