"""Page to explore one network on pairs: one HTML file that loads nothing, with linked views of cells and neurons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mechmem.analyses.logits.cell_outcomes import OUTCOMES
from mechmem.core.arguments import checked
from mechmem.core.export import write_html
from mechmem.core.export_checks import check_page
from mechmem.core.files import written
from mechmem.core.subject import Subject
from mechmem.pages.explored import Explored, explored

TITLES = {
    "states": "other checkpoints",
    "logits": "the logits",
    "parts": "the parts of the logits",
    "contributions": "contributions of neurons",
    "influences": "influences",
    "waves": "waves and classes",
    "clusters": "clusters",
    "map": "the map",
}
"""Names of the views in the notes on what is missing."""

OUTCOME_TITLES = ("right", "memorized (its wrong training label)", "otherwise wrong", "truth not known")
"""Legend of the outcomes, in the order of `OUTCOMES`."""


@checked
def explore(subject: Subject, path: str | Path, *, progress: bool = False) -> None:
    """Write one HTML page to explore a network whose inputs are pairs (a, b); whole or not at all.

        mm.explore(mm.load("runs/first"), "page.html")

    The page needs nothing else, not even a network connection. A slider runs over the saved states of training, and the
    grid of cells shows each outcome there. A click on a cell shows its answers, the neurons that hold its answer, the
    training cells that it owes most to, and the parts of its logits; a click on a neuron shows its waves, its spectrum
    and its class, and marks its cells. What is selected is part of the page's address, and so can be shared. A view
    that this network does not have says why in one line.

    Answers are those of every saved state; neurons, logits and influences those of the network itself.

    Args:
        subject: the network; with its run, the page has its training too.
        path: where to write.
        progress: whether to show bars.

    Raises:
        MissingNeedError: the network's inputs are not pairs, or its logits are not finite.
        ConfigError: it has more symbols than a page can show.
        RunDirectoryError: the path holds something else than a page of mechmem, cannot be written, or the disk is full;
            or the network's run is damaged.
        UnsteadyNetworkError: the network is random in evaluation mode, or examples act on each other in it.
    """
    check_page(path, "path", "a page of mechmem")
    found = explored(subject, progress=progress)
    with written(path):
        write_html("explore.html", Path(path), **_context(found))


def _context(found: Explored) -> dict[str, Any]:
    """Return what the template shows."""
    missing = dict(found.missing)
    if len(found.course.steps) == 1:
        missing["states"] = "the slider has one position, since no other state of this network was saved"
    colors = zip(OUTCOME_TITLES, OUTCOMES.values(), strict=True)
    return {
        "name": found.name,
        "sentence": _sentence(found),
        "missing": missing,
        "titles": TITLES,
        "method": "" if found.influences is None else found.influences.method,
        "outcomes": list(colors),
        "states": len(found.course.steps),
        "symbols": found.cells.outcomes.symbols,
        "width": found.width,
        # No text in the data can end the script element that holds them.
        "data": json.dumps(found.to_json(), allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
    }


def _sentence(found: Explored) -> str:
    """Describe task and cells in one sentence."""
    given, true, split = (found.cells.of(name) for name in ("given", "true", "split"))
    trained = split == 0
    wrong = int((trained & (true >= 0) & (true != given)).sum())
    noisy = f" ({wrong:,} with a wrong label)" if wrong else ""
    unknown = " (which labels are wrong is not known)" if bool((true[trained] < 0).any()) else noisy
    of = f" of {found.task}" if found.task else ""
    return (
        f"{len(given):,} cells (a, b){of}: {int(trained.sum()):,} trained on{unknown}, "
        f"{int((split == 1).sum()):,} held out."
    )
