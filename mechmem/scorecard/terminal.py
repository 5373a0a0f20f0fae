"""Scorecard as text within 80 columns, for `print(card)` and `mechmem audit` on a terminal."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from mechmem.scorecard.rows import CONTROL_TITLES, Cell
from mechmem.scorecard.wording import figure, structure_line, vote_line

if TYPE_CHECKING:
    from mechmem.scorecard.scorecard import Scorecard

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
"""Column heads, narrow enough for ten columns of figures in 80 characters."""


WIDEST = 22
"""Most characters of an extractor's name in one line."""


def laid_out(card: Scorecard) -> Group:
    """Lay out a scorecard: table, prior knowledge of each extractor, votes, structure and sentence."""
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
        # A long chain continues in a second line, or the heads of the figures would be cut off.
        name = row.extractor if len(row.extractor) <= WIDEST else row.extractor.replace("+", "\n+")
        table.add_row(name, *(_figure(cell) for cell in cells))
    known = Text("".join(f"{row.extractor} knows: {', '.join(row.knows) or 'nothing'}\n" for row in card.rows))
    known.stylize("dim")
    facts = [*map(vote_line, card.votes), structure_line(card.structure)]
    sentence = Text(card.sentence + "\n", style="bold")
    return Group(title, table, Text(), _reasons(card), known, Text("\n".join(facts) + "\n"), sentence)


def plain(card: Scorecard, width: int = 100) -> str:
    """Return the layout as text without colours."""
    page = Console(file=io.StringIO(), width=width, color_system=None, highlight=False, legacy_windows=False)
    page.print(laid_out(card))
    assert isinstance(page.file, io.StringIO)
    return "\n".join(line.rstrip() for line in page.file.getvalue().rstrip().splitlines())


def _figure(cell: Cell | None) -> str:
    return "" if cell is None else figure(cell.estimate)


def _reasons(card: Scorecard) -> Text:
    """List the reasons for missing figures, once each."""
    cells = [cell for row in card.rows for cell in (*row.splits.values(), *row.controls.values())]
    reasons = dict.fromkeys(cell.reason for cell in cells if cell.reason)
    return Text("".join(f"–: {reason}\n" for reason in reasons), style="dim")
