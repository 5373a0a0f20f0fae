"""Sections of a report: the analyses that it shows of each network, and how to read their figures."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
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
from mechmem.core.results import Result
from mechmem.core.subject import Subject

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
