"""Report on audited networks: one HTML file that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mechmem.core.arguments import checked_but
from mechmem.core.export import embedded, needs, table, write_html
from mechmem.core.export_checks import check_page, is_page
from mechmem.core.files import LOCK, becomes, sweep, written
from mechmem.core.in_words import shown
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.results import Result
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError
from mechmem.pages.facts import facts, settings
from mechmem.pages.sections import SCORECARD_CAPTION, SECTIONS, Section
from mechmem.scorecard import glossary
from mechmem.scorecard.scorecard import Scorecard
from mechmem.scorecard.wording import html_rows, verdict_in_words

MOST_ROWS, DIGITS = 200, 4
"""Rows of the table behind a figure, and significant digits in it; `export("table.csv")` of a result has all."""

COLUMN, THREE_PANELS = 640, 840
"""Pixels: what the column of a report gives to a figure at least, and what three panels would like to have."""


@checked_but("entries")
def write_report(entries: Sequence[tuple[Subject, Scorecard]], path: str | Path) -> None:
    """Write one HTML file that needs nothing else, not even a network connection; whole or not at all.

    A section whose analysis is impossible for a network says why in one line.

        mm.write_report([(network, mm.audit(network))], "report.html")

    Args:
        entries: networks, each with its scorecard.
        path: where to write.

    Raises:
        ConfigError: an entry is no pair of a network and its scorecard, or the path does not end in .html or .htm.
        RunDirectoryError: the path holds something else than a report, cannot be written, or the disk is full.
    """
    for entry in entries if isinstance(entries, Sequence) else [entries]:
        pair = isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], Subject)
        if not pair or not isinstance(entry[1], Scorecard):
            got = type(entry).__name__
            raise ConfigError(
                f"entries: a report takes pairs, (subject, mm.audit(subject)), one per network; got a {got} with "
                f"{shown(entry)}"
            )
    if not entries:
        raise ConfigError("entries must be at least one pair (subject, mm.audit(subject)), got none")
    for subject, card in entries:
        known = subject.task.summary
        if card.name != subject.name or any(card.task.get(key, known[key]) != known[key] for key in known):
            named = f"{subject.name!r} with {card.name!r}"
            raise ConfigError(f"entries must pair a network with its own scorecard, got {named}")
    check_page(path, "path", "a report of mechmem")
    networks = [_network(*entry, f"network-{place}") for place, entry in enumerate(entries, 1)]
    with written(path):
        write_html("report.html", Path(path), networks=networks, glossary=glossary, knowledge=KNOWLEDGE)


def check_output(out: Path, ours: Collection[str]) -> None:
    """Refuse a directory that holds anything but what mechmem writes there.

    Args:
        out: the directory; it need not exist.
        ours: names that may be written over; a `report.html` only if mechmem wrote it.

    Raises:
        RunDirectoryError: it is a file, cannot be read, or holds something else.
    """
    try:
        sweep(out, *ours)
        found = list(out.iterdir()) if out.exists() else []
        strangers = [path.name for path in found if path.name not in {*ours, LOCK} and not becomes(path, *ours)]
        page = out / "report.html"
        if page.is_file() and not is_page(page):
            strangers.append("a report.html of somebody else's")
    except OSError as error:
        raise RunDirectoryError(f"cannot use {out}: {error.strerror}") from error
    if strangers:
        raise RunDirectoryError(f"{out} holds something else ({strangers[0]}); choose another directory")


def _network(subject: Subject, card: Scorecard, anchor: str) -> dict[str, Any]:
    """Return what the template shows of a network; `anchor` is the start of the names of its places on the page."""
    name = card.name.replace("_", " ")
    scorecard = {
        "anchor": f"{anchor}-scorecard",
        "title": "Scorecard",
        "caption": SCORECARD_CAPTION,
        "figure": _figure(card, f"Scorecard: {name}"),
        "table": table(card.intervals(), f"Accuracies and their intervals, {name}", MOST_ROWS, DIGITS),
    }
    return {
        "anchor": anchor,
        "name": name,
        "verdict": card.verdict,
        "in_words": verdict_in_words(card),
        "sentence": card.sentence,
        "facts": facts(subject),
        "settings": settings(subject, card.task),
        "rows": html_rows(card),
        "scorecard": scorecard,
        "sections": [_section(section, subject, name, anchor) for section in SECTIONS],
    }


def _section(section: Section, subject: Subject, name: str, anchor: str) -> dict[str, Any]:
    place = re.sub(r"\W+", "-", section.title.lower())
    shown: dict[str, Any] = {"anchor": f"{anchor}-{place}", "title": section.title, "caption": section.caption}
    shown |= {"figure": None, "note": "", "remark": ""}
    try:
        result = section.analysis(subject)
    except MissingNeedError as error:
        return shown | {"note": str(error)}
    return shown | {
        "note": section.note(result),
        "remark": section.remark(result),
        "figure": _figure(result, f"{section.title}: {name}"),
        "table": table(result.to_frame(), f"The figures behind “{section.title}”, {name}", MOST_ROWS, DIGITS),
    }


def _figure(result: Result, label: str) -> str:
    """Return a figure's place on the page; up to three panels are fitted into its column."""
    figure = result.plot()
    least = needs(figure)[1]
    return embedded(figure, label, min(least, COLUMN) if least <= THREE_PANELS else least)
