"""The ledger as one HTML page, with the paper's figures redrawn from our runs."""

from __future__ import annotations

from pathlib import Path

from mechmem.pages import embedded, write_html
from mechmem.reproduction.claims import Finding, Recipe
from mechmem.reproduction.ledger import Ledger, with_interval
from mechmem.reproduction.trials import measurements


def write_page(ledger: Ledger, recipe: Recipe, folder: Path) -> None:
    """Write `ledger.html` into the reproduction's directory.

    Args:
        ledger: the claims, as they came out.
        recipe: draws the figures.
        folder: holds the measurements.
    """
    drawn = {}
    for entry in ledger.entries:
        claim = recipe.claim(entry.key)
        figure = None
        if claim.draw is not None and entry.runs:
            figure = embedded(claim.draw(measurements(claim, ledger.scale, folder)))
        drawn[entry.key] = figure
    write_html("ledger.html", folder / "ledger.html", ledger=ledger, drawn=drawn, figures=_figures)


def _figures(finding: Finding) -> str:
    return finding.reason if finding.estimate is None else with_interval(finding.estimate)
