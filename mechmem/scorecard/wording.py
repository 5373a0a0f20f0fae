"""Wording of the scorecard's finding, and its HTML table."""

from __future__ import annotations

import html
import math
from collections import Counter
from typing import TYPE_CHECKING

import pandas as pd

from mechmem.core.stats import Estimate
from mechmem.scorecard.glossary import VERDICTS
from mechmem.scorecard.rows import CONTROL_TITLES

if TYPE_CHECKING:
    from mechmem.scorecard.rows import Cell, Row
    from mechmem.scorecard.scorecard import Scorecard
    from mechmem.scorecard.structure import Structure
    from mechmem.scorecard.votes import LabelVote


SPLIT_TITLES = {
    "train_clean": "train clean",
    "train_noisy": "train noisy",
    "train_noisy_true": "train noisy (true)",
    "test": "test",
    "test_in_group": "test, nonzero",
}


def figure(estimate: Estimate | None) -> str:
    """Write an accuracy in percent, without the sign: 100 and 0 only if exact."""
    if estimate is None:
        return "–"
    value = 100 * estimate.value
    if value in (0, 100):
        return f"{value:.0f}"
    return ">99.9" if value >= 99.95 else "<0.1" if value < 0.05 else f"{value:.1f}"


def percent(estimate: Estimate | None) -> str:
    """Write an accuracy as a percentage."""
    return figure(estimate) if estimate is None else f"{figure(estimate)}%"


def percent_with_interval(estimate: Estimate | None) -> str:
    """Write an accuracy with its 95 % interval."""
    if estimate is None or not math.isfinite(estimate.low):
        return percent(estimate)
    return f"{percent(estimate)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def finding(card: Scorecard) -> str:
    """Return the finding as a sentence: whether the recovered accuracy is in the network or only in its labels."""
    structure = card.structure
    name = card.name.replace("_", " ")
    if card.verdict == "refused":
        return f"{name}: no verdict: {structure.reason}; {_beside_controls(card)}{_caveat(card)}."
    if card.verdict == "mixed":
        return f"{name}: {verdict_in_words(card)}."
    who = name if len(card.verdicts) == 1 else f"{name} (all {len(card.verdicts)} runs)"
    reason = f"; {structure.reason}" if structure.reason else ""
    return f"{who} {verdict_in_words(card)} ({', '.join(_evidence(structure))}{reason}); {_best(card)}{_caveat(card)}."


def verdict_in_words(card: Scorecard) -> str:
    """Write what was found on unseen inputs, and no more than was tested, as the predicate of a sentence."""
    if card.verdict == "mixed":
        counts = Counter(card.verdicts)
        parts = [f"{counts[name]} {meaning.many}" for name, meaning in VERDICTS.items() if counts[name]]
        return f"of {len(card.verdicts)} runs, {', '.join(parts)}"
    if card.verdict == "labels_only" and card.structure.reason:
        return "shows nothing of the rule on unseen inputs that is not explained otherwise, at this scale"
    return VERDICTS[card.verdict].one


def _evidence(structure: Structure) -> list[str]:
    """Write κ, Z and the held-out vote, with no-break spaces and true minus signs.

    Where nothing shows, κ has the upper end of its interval beside it: that much the data still allow.
    """
    assert structure.kappa is not None and structure.Z is not None and structure.S is not None
    values = [f"κ = {_decimals(structure.kappa.value, 2)}", f"Z = {_decimals(structure.Z, 1)}"]
    if structure.verdict == "labels_only" and math.isfinite(structure.kappa.high):
        values[0] += f", at most {max(structure.kappa.high, 0):.2f}"
    if structure.verdict == "another_rule":
        values.append(f"S = {structure.S.value:.2f}")
    shown = percent_with_interval if structure.verdict == "trace" else percent
    vote = f"held-out vote {shown(structure.heldout_vote)}"
    return [value.replace("-", "−").replace(" ", "\u00a0") for value in values] + [vote]


def _decimals(value: float, digits: int) -> str:
    """Write a number without the sign of a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def structure_line(structure: Structure) -> str:
    """Write the held-out structure with its intervals in one line."""
    if structure.S is None or structure.kappa is None or structure.Z is None:
        return f"held-out structure: refused, {structure.reason}"
    reference = "" if structure.reference_kappa is None else f" (the labels' own {structure.reference_kappa:.3f})"
    S, kappa = map(_with_interval, (structure.S, structure.kappa))
    why = f"; {structure.reason}" if structure.reason else ""
    left = f" of {structure.n_test} cells that no mirror image gives away" if structure.n_left_out else " cells"
    line = (
        f"held-out structure on {structure.n_test - structure.n_left_out}{left}: S {S}, κ {kappa}{reference}, "
        f"Z {structure.Z:.1f}, "
        f"vote {percent_with_interval(structure.heldout_vote)}{why}"
    )
    return line.replace("-0.", "−0.").replace("Z -", "Z −")


def _with_interval(estimate: Estimate) -> str:
    if not math.isfinite(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def vote_line(vote: LabelVote) -> str:
    """Write the accuracy of a vote of the training labels in one line."""
    slope = "" if vote.slope is None else f" (chose slope {vote.slope})"
    accuracy = percent_with_interval(vote.test) if vote.test else vote.reason
    return f"vote of the training labels {vote.name}{slope}: {accuracy}"


def _best(card: Scorecard) -> str:
    """Write the highest test accuracy of any extractor beside that of a vote of the labels."""
    best = _most_read(card)
    if best is None:
        return "no extractor could be applied"
    vote = next((vote for vote in card.votes if vote.test is not None), None)
    read = f"the most that is read out is {percent(best.splits['test'].estimate)} ({best.extractor})"
    if vote is None:
        return read
    answers = "the operation" if "operation" in vote.knows else "which inputs share an answer"
    told = answers if vote.name == "by answer" else "the group"
    return f"{read}, a vote of the training labels, given {told}, gives {percent(vote.test)}"


def _beside_controls(card: Scorecard) -> str:
    """Write the highest test accuracy of any extractor beside the same extractor's highest on a control."""
    best = _most_read(card)
    if best is None:
        return "no extractor could be applied"
    own = best.splits["test"].estimate
    read = f"the most that is read out is {percent(own)} ({best.extractor})"
    found = {CONTROL_TITLES[name]: cell.estimate for name, cell in best.controls.items() if cell.estimate is not None}
    if own is None or not found:
        return f"{read}, with no control beside it"
    control, most = max(found.items(), key=lambda item: item[1].value)
    more = "more than on every control" if own.low > most.high else "no more than on a control"
    return f"{read}, {more} ({control} {percent(most)})"


def _most_read(card: Scorecard) -> Row | None:
    """Return the row with the highest test accuracy, or None if there is no such accuracy."""
    rows = [row for row in card.rows if row.splits["test"].estimate is not None]
    return max(rows, key=lambda row: row.splits["test"].estimate.value, default=None)  # pyright: ignore[reportOptionalMemberAccess]


def _caveat(card: Scorecard) -> str:
    missing = [CONTROL_TITLES[name] for name in card.uncontrolled if name in ("untrained", "one_step", "noise_only")]
    uncontrolled = f"; uncontrolled: no {', '.join(missing)} twin" if missing else ""
    stopped = "; training was stopped by test accuracy" if "test" in str(card.task.get("stopped_by", "")) else ""
    return uncontrolled + stopped


def html_table(card: Scorecard) -> str:
    """Write the scorecard as HTML: the finding and its table."""
    return f'<div class="mechmem-scorecard"><p>{html.escape(card.sentence)}</p>{html_rows(card)}</div>'


def html_rows(card: Scorecard) -> str:
    """Write the scorecard's table, label votes and held-out structure as HTML, without the finding.

    A missing figure carries its reason as a tooltip.
    """
    controls = [name for name in CONTROL_TITLES if any(name in row.controls for row in card.rows)]
    splits = list(card.rows[0].splits) if card.rows else []
    titles = ["extractor", "knows", *(SPLIT_TITLES[split] for split in splits), *(CONTROL_TITLES[c] for c in controls)]
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
    over = f'<td colspan="2"></td><th scope="colgroup" colspan="{len(splits)}">accuracy of this network</th>'
    if controls:
        title = "test accuracy of the same extractor on a control"
        over += f'<th scope="colgroup" colspan="{len(controls)}">{title}</th>'
    body = "".join(_line(row, controls) for row in card.rows)
    lines = [*map(vote_line, card.votes), structure_line(card.structure)]
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return (
        f"<table><caption>Scorecard of {html.escape(card.name.replace('_', ' '))}</caption>"
        f"<thead><tr>{over}</tr><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{facts}</ul>"
    )


def plain_table(card: Scorecard) -> pd.DataFrame:
    """Return the scorecard's figures as text, one row per extractor, for print: no prior knowledge, no reasons."""
    controls = [name for name in CONTROL_TITLES if any(name in row.controls for row in card.rows)]
    rows = [
        {"extractor": row.extractor}
        | {SPLIT_TITLES[split]: percent(cell.estimate) for split, cell in row.splits.items()}
        | {
            CONTROL_TITLES[name]: percent(row.controls[name].estimate) if name in row.controls else ""
            for name in controls
        }
        for row in card.rows
    ]
    return pd.DataFrame(rows)


def _control(row: Row, name: str) -> str:
    return percent(row.controls[name].estimate) if name in row.controls else ""


def _line(row: Row, controls: list[str]) -> str:
    known = html.escape(", ".join(row.knows)) or "nothing"
    cells = [*row.splits.values()] + [row.controls.get(name) for name in controls]
    return (
        f'<tr><th scope="row">{html.escape(row.extractor)}</th><td>{known}</td>'
        + "".join(f"<td{_tooltip(cell)}>{percent(cell.estimate if cell else None)}</td>" for cell in cells)
        + "</tr>"
    )


def _tooltip(cell: Cell | None) -> str:
    if cell is None:
        return ' title="this control does not apply to this extractor"'
    n = cell.estimate.n if cell.estimate else 0
    text = cell.reason or f"95 % interval {percent_with_interval(cell.estimate)}, n = {n}"
    return f' title="{html.escape(text, quote=True)}"'
