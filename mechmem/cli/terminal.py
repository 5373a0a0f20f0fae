"""Scorecards, ledgers and plugin lists on a terminal, within 80 columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mechmem.examples.detection import Detection
from mechmem.examples.table import ExampleTable
from mechmem.math.detection import FIGURES
from mechmem.recipes.ledger import Entry, Ledger, ours
from mechmem.scorecard.rows import CONTROL_TITLES, Cell
from mechmem.scorecard.scorecard import Scorecard
from mechmem.scorecard.wording import figure, structure_line, vote_line

HEADS = {
    "train_clean": "train\nclean",
    "train_noisy": "train\nnoisy",
    "train_noisy_true": "noisy\ntrue",
    "test": "\ntest",
    "test_in_group": "non-\nzero",
    "untrained": "un-\ntrain.",
    "one_step": "one\nstep",
    "noise_only": "noise\nonly",
    "random_choice": "rand.\nchoice",
    "inputs": "\ninputs",
    "label_grid": "label\ngrid",
    "kernel_ridge": "kern.\nridge",
}
"""Column heads narrow enough for ten columns of figures in 80."""


def console() -> Console:
    """Return the console that results are printed on."""
    return Console(highlight=False)


def scorecard_table(card: Scorecard) -> RenderableType:
    """Lay a scorecard out: the table, what each extractor was told, votes, structure, and the sentence."""
    controls = [name for name in CONTROL_TITLES if any(name in row.controls for row in card.rows)]
    title = Text.assemble(
        (card.name.replace("_", " "), "bold"), ", accuracy in %; right of test: test accuracy on controls\n"
    )
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("\nextractor", no_wrap=True)
    for name in (*(card.rows[0].splits if card.rows else ()), *controls):
        style = "bold" if name.startswith("test") else "dim" if name in controls else ""
        table.add_column(HEADS[name], justify="right", style=style, no_wrap=True)
    for row in card.rows:
        cells = [*row.splits.values()] + [row.controls.get(name) for name in controls]
        table.add_row(row.extractor, *(_figure(cell) for cell in cells))
    told = Text("".join(f"{row.extractor} was told: {', '.join(row.knows) or 'nothing'}\n" for row in card.rows))
    told.stylize("dim")
    facts = [*map(vote_line, card.votes), structure_line(card.structure)]
    sentence = Text(card.sentence + "\n", style="bold")
    return Group(title, table, Text(), _reasons(card), told, Text("\n".join(facts) + "\n"), sentence)


def _figure(cell: Cell | None) -> str:
    return "" if cell is None else figure(cell.estimate)


def _reasons(card: Scorecard) -> Text:
    """List once why figures are missing."""
    cells = [cell for row in card.rows for cell in (*row.splits.values(), *row.controls.values())]
    reasons = dict.fromkeys(cell.reason for cell in cells if cell.reason)
    return Text("".join(f"–: {reason}\n" for reason in reasons), style="dim")


def examples_table(
    table: ExampleTable, quality: Detection | None, reason: str, most: Mapping[str, Sequence[int]]
) -> RenderableType:
    """Lay scores of examples out: how well each finds wrong labels, and the ids of the most suspect examples.

    Args:
        table: the scores.
        quality: how well they find wrong labels, or None.
        reason: why that cannot be said, or "".
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
    lines = [f"{name}: {', '.join(map(str, ids))}" for name, ids in most.items()]
    notes = [f"{name}: {each.note}" for name, each in table.scores.items() if each.note]
    notes += [f"no {name}: {why}" for name, why in table.reasons.items()]
    head = f"{len(table.ids)} training examples"
    head += "" if quality is None else f", {quality.noisy} wrongly labelled; how well each score finds them\n"
    shown = rows if quality is not None else Text(f"; {reason}\n")
    parts: list[RenderableType] = [Text(head, style="bold"), shown, Text("\nmost suspect, by id", style="bold")]
    return Group(*parts, Text("\n".join(lines)), Text("\n".join(notes), style="dim"))


VERDICT_STYLES = {"reproduced": "green", "not reproduced": "red", "not at this scale": "yellow", "undecided": "yellow"}


def entry_lines(entry: Entry) -> RenderableType:
    """Lay one claim of a ledger out: verdict, statement, and every condition with what was measured."""
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
    """Lay a ledger out: one line per claim, and how many came out how."""
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


def plugin_list(rows: list[dict[str, Any]]) -> RenderableType:
    """Lay out what `mechmem list` found, a paragraph per plugin."""
    parts: list[RenderableType] = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        parts.append(Text(kind, style="bold underline"))
        for row in (row for row in rows if row["kind"] == kind):
            also = f"also {', '.join(row['aliases'])}\n" if row["aliases"] else ""
            told = "" if row["knows"] is None else f"told: {', '.join(row['knows']) or 'nothing'}\n"
            told = f"{also}{told}source: {row['cites']}"
            parts.append(Padding(Text(row["name"], style="bold"), (0, 0, 0, 2)))
            parts.append(Padding(Text(row["summary"]), (0, 0, 0, 4)))
            parts.append(Padding(Text(told, style="dim"), (0, 0, 0, 4)))
    return Group(*parts)
