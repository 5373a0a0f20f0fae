"""The commands that measure a trained run, and their options, as frozen dataclasses. Imports no torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from mechmem.cli.commands import CommonOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfRun(CommonOptions):
    """Options of every measurement of a run.

    Attributes:
        run: the run directory.
        out: a file: .svg, .png, .pdf or .html for the figure, .csv or .parquet for the table, .json for plotly.
        device: device for the network ("cpu", "cuda").
    """

    run: tyro.conf.Positional[Path]
    out: Path | None = None
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfState(OfRun):
    """Options of every measurement of one state of a run.

    Attributes:
        step: the state saved at this step; by default the last.
    """

    step: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discover(OfState):
    """Write down the rule that a run's network computes, told neither group nor operation, labels nor test answers.

    Attributes:
        extractor: the extractor of the table; by default the one that reads most of the network.
    """

    extractor: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analyse(OfState):
    """Run one analysis of a run's network, e.g. logit_spectrum or "partition(by=ipr)".

    `mechmem list analyses` lists them.

    Attributes:
        name: the analysis, with settings in parentheses if any.
    """

    name: tyro.conf.Positional[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablate(OfState):
    """Ablate the neurons of a run's network one after the other, and measure the four splits along the way.

    Attributes:
        by: the score that ranks the neurons, e.g. ipr; by default the one that suits the network.
        order: lowest score first, highest first, or at random.
        points: number of steps from none to all of the neurons.
        at: a hook point; by default the last layer of neurons.
        units: what is ablated there.
        value: what replaces activations.
        seed: seed of the random orders.
    """

    by: str = ""
    order: tuple[Literal["low", "high", "random"], ...] = ("low", "high", "random")
    points: int = 50
    at: str = ""
    units: Literal["neuron", "channel", "head"] = "neuron"
    value: Literal["zero", "mean", "resample"] = "zero"
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Patch(OfState):
    """Patch activations from one pass into another, and measure how much of the behaviour follows.

    Attributes:
        donor: another run, whose activations are patched in; by default pairs of examples of this one.
        at: hook points or patterns; by default those of the network's roles.
        units: what is patched at once.
        direction: denoising patches values of right labels in, noising those of wrong ones.
        metric: difference of the two labels' logits, or of their probabilities.
        seed: seed of the pairs and of the bootstrap.
    """

    donor: Path | None = None
    at: tuple[str, ...] = ()
    units: Literal["point", "neuron", "frequency", "head", "channel", "position"] = "point"
    direction: Literal["both", "denoising", "noising"] = "both"
    metric: Literal["margin", "probability"] = "margin"
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neuron(OfState):
    """Describe one neuron: its waves, spectrum, class, the effect of its ablation, and what it memorizes most.

    Attributes:
        neuron: the neuron's number, from 0.
        point: hook point of its layer; by default the last layer of neurons.
    """

    neuron: tyro.conf.Positional[int]
    point: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelIssues(OfState):
    """List a run's training labels from the most to the least suspect, with suggestions, for review.

    Attributes:
        score: the score of examples that orders the labels, e.g. loss, aum or learning_speed.
        count: number of labels that are called suspect; by default as many as differ from their suggestion.
        point: the layer whose neighbours suggest a label, or inputs; by default the last layer of neurons.
        review: a .html page on which a person decides about the suspect labels.
    """

    score: str = "loss"
    count: int | None = None
    point: str = ""
    review: Path | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverTraining(OfRun):
    """Measure a run at every checkpoint: extractors, scores and analyses by name, or "structure".

    Attributes:
        what: what is measured, e.g. raw frequency+quadratic ipr structure.
    """

    what: tyro.conf.Positional[tuple[str, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(CommonOptions):
    """Set the scorecards of several runs beside each other.

    Attributes:
        runs: the run directories.
        out: a file: .svg, .png, .pdf or .html for the figure, .csv or .parquet for the table, .json for plotly.
        extractors: the extractors, e.g. raw frequency+quadratic; by default all that suit the task.
        device: device for the networks and for training their twins ("cpu", "cuda").
    """

    keeps = True

    runs: tyro.conf.Positional[tuple[Path, ...]]
    out: Path | None = None
    extractors: tuple[str, ...] = ()
    device: str = "cpu"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explore(CommonOptions):
    """Write one HTML page to explore a run whose inputs are pairs: cells, neurons and training, linked; works offline.

    Attributes:
        run: the run directory.
        out: the page, a .html file.
        step: the neurons, logits and influences of the state saved at this step; by default the last.
        device: device for the network ("cpu", "cuda").
    """

    run: tyro.conf.Positional[Path]
    out: Path = Path("explore.html")
    step: int | None = None
    device: str = "cpu"
