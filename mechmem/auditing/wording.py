"""The scorecard in words and as an HTML table."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from mechmem.stats import Estimate
from mechmem.training.config import SPLITS

if TYPE_CHECKING:
    from mechmem.auditing.scorecard import Cell, Row, Scorecard

CONTROL_TITLES = {
    "untrained": "untrained",
    "one_step": "one-step",
    "noise_only": "noise-only",
    "random_frequency": "random frequency",
    "label_grid": "label grid",
    "kernel_ridge": "kernel ridge",
}
"""Controls in the order in which they are shown, and how they are written."""

SPLIT_TITLES = {
    "train_clean": "train clean",
    "train_noisy": "train noisy",
    "train_noisy_true": "train noisy (true)",
    "test": "test",
}


def percent(estimate: Estimate | None) -> str:
    """Write an accuracy as a percentage, with one digit where it is between 0 and 100 %."""
    if estimate is None:
        return "–"
    value = 100 * estimate.value
    return f"{value:.0f}%" if value in (0, 100) else f"{value:.1f}%"


def with_interval(estimate: Estimate | None) -> str:
    """Write an accuracy with its 95 % interval."""
    if estimate is None or not math.isfinite(estimate.low):
        return percent(estimate)
    return f"{percent(estimate)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def finding(card: Scorecard) -> str:
    """Say in plain words where the recovered accuracy is."""
    structure = card.structure
    if card.verdict == "refused":
        return f"{card.name}: no verdict: {structure.reason}."
    if card.verdict == "mixed":
        rule = sum(verdict == "rule" for verdict in card.verdicts)
        return (
            f"{card.name}: {rule} of {len(card.verdicts)} runs compute the rule on inputs whose labels they never saw."
        )
    who = card.name if len(card.verdicts) == 1 else f"{card.name} (all {len(card.verdicts)} runs)"
    assert structure.kappa is not None and structure.Z is not None
    evidence = (
        f"κ = {structure.kappa.value:.2f}, Z = {structure.Z:.1f}, held-out vote {percent(structure.heldout_vote)}"
    )
    if card.verdict == "rule":
        verdict = f"computes the rule on inputs whose labels it never saw ({evidence})"
    else:
        verdict = f"shows nothing beyond its labels on unseen inputs, at this scale ({evidence})"
    return f"{who} {verdict}; {_best(card)}{_caveat(card)}."


def _best(card: Scorecard) -> str:
    """Set the most that any extractor reads beside what the labels alone give."""
    rows = [row for row in card.rows if row.splits["test"].estimate is not None]
    if not rows:
        return "no extractor could be applied"
    best = max(rows, key=lambda row: row.splits["test"].estimate.value)  # pyright: ignore[reportOptionalMemberAccess]
    vote = next((vote.test for vote in card.votes if vote.test is not None), None)
    read = f"the most that is read out is {percent(best.splits['test'].estimate)} ({best.extractor})"
    return f"{read}, a vote of the training labels alone gives {percent(vote)}" if vote is not None else read


def _caveat(card: Scorecard) -> str:
    missing = [CONTROL_TITLES[name] for name in card.uncontrolled if name in ("untrained", "one_step", "noise_only")]
    return f"; uncontrolled: no {', '.join(missing)} twin" if missing else ""


def html_table(card: Scorecard) -> str:
    """Write the scorecard as one HTML table; a missing figure carries its reason as a tooltip."""
    controls = [name for name in CONTROL_TITLES if any(name in row.controls for row in card.rows)]
    titles = ["extractor", "told", *(SPLIT_TITLES[split] for split in SPLITS), *(CONTROL_TITLES[c] for c in controls)]
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)
    over = f'<th colspan="2"></th><th colspan="{len(SPLITS)}">accuracy of this network</th>'
    if controls:
        over += f'<th colspan="{len(controls)}">test accuracy of the same extractor on a control</th>'
    body = "".join(_line(row, controls) for row in card.rows)
    votes = "".join(
        f"<li>vote of the training labels {html.escape(vote.name)}"
        f"{'' if vote.slope is None else f' (slope {vote.slope})'}: "
        f"{with_interval(vote.test) if vote.test else html.escape(vote.reason)}</li>"
        for vote in card.votes
    )
    return (
        f'<div class="mechmem-scorecard"><p>{html.escape(card.sentence)}</p>'
        f"<table><thead><tr>{over}</tr><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{votes}</ul></div>"
    )


def _line(row: Row, controls: list[str]) -> str:
    told = html.escape(", ".join(row.knows)) or "nothing"
    cells = [row.splits[split] for split in SPLITS] + [row.controls.get(name) for name in controls]
    return (
        f"<tr><th>{html.escape(row.extractor)}</th><td>{told}</td>"
        + "".join(f"<td{_tooltip(cell)}>{percent(cell.estimate if cell else None)}</td>" for cell in cells)
        + "</tr>"
    )


def _tooltip(cell: Cell | None) -> str:
    if cell is None:
        return ' title="this control does not apply to this extractor"'
    text = cell.reason or f"95 % interval {with_interval(cell.estimate)}, n = {cell.estimate.n if cell.estimate else 0}"
    return f' title="{html.escape(text, quote=True)}"'
