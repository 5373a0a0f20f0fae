"""Report on audited networks: one HTML file that loads nothing."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechmem.analyses.discover_rule import discover_rule
from mechmem.analyses.examples.influential_examples import InfluentialExamples
from mechmem.analyses.examples.memorized_examples import MemorizedExamples
from mechmem.analyses.logits.cell_outcomes import CellOutcomes
from mechmem.analyses.logits.logit_spectrum import LogitSpectrum
from mechmem.analyses.logits.suppression import Suppression
from mechmem.analyses.neurons.fourier_classification import FourierClassification
from mechmem.analyses.neurons.neuron_spectrum import NeuronSpectrum
from mechmem.analyses.runs.training_curves import TrainingCurves
from mechmem.core.arguments import checked_but
from mechmem.core.export import embedded, write_html
from mechmem.core.files import LOCK, becomes, sweep, written
from mechmem.core.in_words import shown
from mechmem.core.paths import check_place
from mechmem.core.results import Result
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError
from mechmem.scorecard.scorecard import Scorecard

SCORECARD_CAPTION = (
    "Each filled mark is the network's accuracy on one split, read out by the extractor on the left; each open grey "
    "mark is the test accuracy of the same extractor on a control. Accuracy that a control reaches too is no evidence "
    "of a rule in the network."
)


@dataclasses.dataclass(frozen=True)
class Section:
    """One analysis on the page.

    Attributes:
        title: its heading.
        analysis: what is run.
        caption: how to read the figure.
        note: what the result says is missing from it, or "".
        remark: what else it says of itself, or "".
    """

    title: str
    analysis: Callable[[Subject], Result]
    caption: str
    note: Callable[[Any], str] = lambda result: ""
    remark: Callable[[Any], str] = lambda result: ""


SECTIONS = (
    Section(
        "The rule, told nothing",
        discover_rule,
        "The labels that the network was trained on; what it answers on every pair once its neurons keep only what "
        "they share with others; and the rule, its rows and columns in the order of the group that was recognised. "
        "Neither group nor operation, no label and no answer was used to read it.",
        remark=lambda rule: rule.sentence.rstrip("."),
    ),
    Section(
        "Training",
        TrainingCurves(),
        "Accuracy on the four splits over training. The curve of given labels on noisy examples shows when the wrong "
        "labels are memorized; the curve of their true labels, and the test curve, show the rule.",
    ),
    Section(
        "Neurons by frequency",
        NeuronSpectrum(),
        "Each column is a neuron, each row a frequency; colour is the share of the neuron's energy. One bright spot "
        "per column means one frequency per neuron. Each panel is sorted by its own strongest frequencies, so a "
        "staircase shows at initialisation too: what training adds is its brightness.",
        operator.attrgetter("initial_note"),
    ),
    Section(
        "Neurons by phase",
        FourierClassification(),
        "Each mark is a neuron at its key frequency. A neuron that computes the rule has its three phases aligned, and "
        "lies on the diagonal; beside it, random neurons of the same shape, which calibrate the classes. Aligned "
        "neurons alone do not say that answers on unseen inputs follow the rule: the scorecard does.",
    ),
    Section(
        "Spectrum of the logits",
        LogitSpectrum(),
        "Energy of the logits' modes over both operands. The rule lives on one diagonal, memorized labels everywhere; "
        "modes of one operand alone hold much of the energy and are left blank, so as not to hide the rest. "
        "Shares below 10⁻⁵ are drawn as 10⁻⁵.",
        operator.attrgetter("after_note"),
    ),
    Section(
        "What the margins are made of",
        Suppression(),
        "Above: mean margin of a label over its strongest rival, and the three parts that sum to it (diamond: the sum, "
        "with its 95 % interval). A label wins where the diamond is above zero; a part below zero holds it down. "
        "Below: accuracies after each part is removed. The rule's part is a mean over training inputs too, so labels "
        "alone can produce one; effects fitted on these cells only carry no label over.",
    ),
    Section(
        "Every input",
        CellOutcomes(),
        "What the network answers on every pair (a, b): right, memorized (its wrong training label), or otherwise "
        "wrong. Dots mark held-out pairs; point at a cell for its labels.",
    ),
    Section(
        "Memorized examples",
        MemorizedExamples(),
        "The most and the least suspect training examples. A network trained with turn-over dropout ranks them by "
        "self-influence: the most suspect are the most memorized. Any other network ranks them by its loss, which is "
        "high on what it learned last or not at all. For input pairs the whole grid is shown, with a dot on each wrong "
        "label. The score knows the given labels, and not which of them are wrong.",
        remark=operator.attrgetter("note"),
    ),
    Section(
        "What helped and harmed one test example",
        InfluentialExamples(),
        "The first test example, and the training examples that it is answered worst without, and best without: the "
        "loss of the subnetwork that has not been trained on them, less that of the one that has.",
    ),
)
"""What a report shows of each network, in order."""


@checked_but("entries")
def write_report(entries: Sequence[tuple[Subject, Scorecard]], path: str | Path) -> None:
    """Write one HTML file that needs nothing else, not even a network connection; whole or not at all.

    A section whose analysis is impossible for a network says why in one line.

    Args:
        entries: networks, each with its scorecard.
        path: where to write.

    Raises:
        ConfigError: an entry is no pair of a network and its scorecard.
        RunDirectoryError: the path holds something else than a report, cannot be written, or the disk is full.
    """
    for entry in entries if isinstance(entries, Sequence) else [entries]:
        pair = isinstance(entry, tuple | list) and len(entry) == 2 and isinstance(entry[0], Subject)
        if not pair or not hasattr(entry[1], "sentence"):
            got = type(entry).__name__
            raise ConfigError(
                f"entries: a report takes pairs, (subject, mm.audit(subject)), one per network; got a {got} with "
                f"{shown(entry)}"
            )
    if not entries:
        raise ConfigError("entries must be at least one pair (subject, mm.audit(subject)), got none")
    for subject, card in entries:
        known = subject.task.summary if isinstance(card, Scorecard) else {}
        if known and (card.name != subject.name or any(card.task.get(key, known[key]) != known[key] for key in known)):
            named = f"{subject.name!r} with {card.name!r}"
            raise ConfigError(f"entries must pair a network with its own scorecard, got {named}")
    check_place(path, "path", file=True)
    if Path(path).is_file() and not _is_page(Path(path)):
        raise RunDirectoryError(f"path: {path} holds something else than a report of mechmem; choose another name")
    networks = [_network(subject, card) for subject, card in entries]
    with written(path):
        write_html("report.html", Path(path), networks=networks, scorecard_caption=SCORECARD_CAPTION)


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
        if page.is_file() and not _is_page(page):
            strangers.append("a report.html of somebody else's")
    except OSError as error:
        raise RunDirectoryError(f"cannot use {out}: {error.strerror}") from error
    if strangers:
        raise RunDirectoryError(f"{out} holds something else ({strangers[0]}); choose another directory")


def _is_page(path: Path) -> bool:
    """Return whether mechmem wrote a page of HTML."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return "<title>mechmem" in file.read(2000)


def _network(subject: Subject, card: Scorecard) -> dict[str, Any]:
    name = card.name.replace("_", " ")
    return {
        "name": name,
        "verdict": card.verdict,
        "sentence": card.sentence,
        "task": dict(_flat(card.task)),
        "scorecard": embedded(card.plot(), f"Scorecard of {name}"),
        "table": card._repr_html_(),
        "sections": [_section(section, subject, name) for section in SECTIONS],
    }


def _section(section: Section, subject: Subject, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"title": section.title, "caption": section.caption, "figure": None}
    shown |= {"note": "", "remark": ""}
    try:
        result = section.analysis(subject)
    except MissingNeedError as error:
        return shown | {"note": str(error)}
    said = {"note": section.note(result), "remark": section.remark(result)}
    return shown | {"figure": embedded(result.plot(), f"{section.title} of {name}"), **said}


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the plain values of a task's description; a nested description's under "<name> <its own name>"."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{key} {inner}", deeper) for inner, deeper in _flat(value) if inner != "kind")
        elif key != "kind":
            yield key, ", ".join(map(str, value)) if isinstance(value, tuple | list) else value
