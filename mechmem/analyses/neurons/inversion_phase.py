"""Phase of a network after Doshi et al., from Coexistence to Full Inversion."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import pandas as pd
import plotly.graph_objects as go

from mechmem.core.config import check_fraction
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.stats import Estimate, proportion
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.models.reading.forward import all_logits
from mechmem.plotting.lines import PALETTE
from mechmem.plotting.style import INK, SPLIT_STYLES, styled, translucent
from mechmem.tasks.config import SPLITS, LabelNoise
from mechmem.tasks.splits import labelled_splits, training_set

COEXISTENCE, PARTIAL, FULL = "Coexistence", "Partial Inversion", "Full Inversion"
MEMORIZATION, FORGETTING, UNDECIDED = "Memorization", "Forgetting/Confusion", "Undecided"
PHASES = (COEXISTENCE, PARTIAL, FULL, MEMORIZATION, FORGETTING, UNDECIDED)
"""The phases of Doshi et al.'s Table 2, and the value where the table names two of them at once."""

HIGH, LOW = 0.9, 0.1
"""The accuracy from which the table calls a set fitted and the network generalizing, and its mirror image, up to which
the wrong labels count as not fitted where the table's bounds overlap."""

_COLORS: dict[str, str] = dict(
    zip(PHASES, (PALETTE[2], PALETTE[5], PALETTE[0], PALETTE[1], PALETTE[6], PALETTE[4]), strict=True)
)


def inversion_bound(noise: float) -> float:
    """Return the train accuracy 1.05 − ξ below which the table speaks of Full Inversion."""
    # Rounded, because 1.05 − .15 is not .9 in binary, and the two bounds must meet there.
    return round(1.05 - noise, 12)


def phase_of(train: float, test: float, noise: float, train_noisy: float | None = None) -> str:
    """Return a network's phase after Doshi et al. 2024, arXiv 2310.13061, Table 2.

    With a test accuracy of at least .9: Coexistence if the train accuracy is at least .9; Partial Inversion if it lies
    in [1.05 − ξ, .9); Full Inversion if it is below 1.05 − ξ. Otherwise: Memorization if the train accuracy is at least
    .9, else Forgetting/Confusion.

    For ξ < .15 a train accuracy in [.9, 1.05 − ξ) is both Coexistence and Full Inversion. Then the accuracy on the
    wrong labels decides: Coexistence if at least .9 of them are fitted, Full Inversion if at most .1 are; in between,
    or if it is not known, "Undecided".

    Args:
        train: accuracy in [0, 1] on the whole training set, against the given labels.
        test: accuracy in [0, 1] on held-out examples.
        noise: ξ, the nominal fraction of training labels that is replaced. If a replacement may equal the truth (the
            table's convention) the share of wrong labels is smaller, ξ(1 − 1/p).
        train_noisy: accuracy in [0, 1] on the wrong training labels; None if there are none, or it is not known.

    Raises:
        ConfigError: a figure is outside [0, 1].
    """
    given = {"train accuracy": train, "test accuracy": test, "label noise": noise, "train_noisy": train_noisy}
    for name, value in given.items():
        if value is not None:
            check_fraction(name, value)
    if test < HIGH:
        return MEMORIZATION if train >= HIGH else FORGETTING
    fitted, inverted = train >= HIGH, train < inversion_bound(noise)
    if fitted and inverted:
        if train_noisy is None or LOW < train_noisy < HIGH:
            return UNDECIDED
        return COEXISTENCE if train_noisy >= HIGH else FULL
    if fitted:
        return COEXISTENCE
    return FULL if inverted else PARTIAL


@record
@dataclasses.dataclass(frozen=True, eq=False)
class InversionPhaseResult(Result):
    """The phase of one network, and the figures that determine it.

    Attributes:
        phase: one of `PHASES`.
        reason: which bounds decided, in a sentence.
        train: accuracy in [0, 1] on the whole training set against the given labels, with its Wilson interval.
        test: accuracy in [0, 1] on the test set, likewise.
        splits: accuracy on train_clean, train_noisy, train_noisy_true and test, likewise; None if a split is empty or
            not known.
        noise: ξ, the fraction of training labels replaced, which sets the bounds.
        noise_source: where ξ comes from.
        wrong: share of the training labels that is wrong, or None if it is not known.
    """

    phase: str
    reason: str
    train: Estimate
    test: Estimate
    splits: Mapping[str, Estimate | None]
    noise: float
    noise_source: str
    wrong: float | None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per split, and one for the whole training set: split, value, low, high, n, phase, reason."""
        found = {"train": self.train, **self.splits}
        rows = [
            {"split": name, **({} if estimate is None else dataclasses.asdict(estimate))}
            for name, estimate in found.items()
        ]
        frame = pd.DataFrame(rows, columns=["split", "value", "low", "high", "n"])
        return frame.assign(noise=self.noise, phase=self.phase, reason=self.reason)

    def plot(self) -> go.Figure:
        """Return the plane of train and test accuracy, divided into the phases at this ξ, with the network marked."""
        figure = go.Figure()
        for name, left, right, bottom, top in _regions(self.noise):
            color = _COLORS[name]
            figure.add_scatter(
                x=[left, right, right, left],
                y=[bottom, bottom, top, top],
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=translucent(color, 0.3),
                name=f"{COEXISTENCE} or {FULL}" if name == UNDECIDED else name,
                hoverinfo="skip",
            )
        whisker = {"color": INK, "thickness": 1.5, "width": 5}
        ends = {
            axis: {"array": [found.high - found.value], "arrayminus": [found.value - found.low], **whisker}
            for axis, found in (("error_x", self.train), ("error_y", self.test))
        }
        figure.add_scatter(
            x=[self.train.value],
            y=[self.test.value],
            **ends,
            mode="markers",
            marker={
                "symbol": SPLIT_STYLES["test"].symbol,
                "size": 10,
                "color": INK,
                "line": {"color": "white", "width": 1.5},
            },
            name=f"this network: {self.phase}",
            hovertemplate="train %{x:.3f}, test %{y:.3f}<extra>%{fullData.name}</extra>",
        )
        styled(figure, 460)
        figure.update_layout(margin={"t": 112})
        title = f"accuracy on the training set, given labels (95 % interval; ξ = {self.noise:.3g})"
        figure.update_xaxes(title_text=title, range=[-0.02, 1.02], showgrid=False)
        figure.update_yaxes(title_text="test accuracy (95 % interval)", range=[-0.02, 1.02], showgrid=False)
        return figure


@dataclasses.dataclass(frozen=True)
class InversionPhase(Analysis):
    """Name the phase of a network: Coexistence, Partial or Full Inversion, Memorization, or Forgetting/Confusion.

    The train accuracy (all training examples, given labels), the test accuracy and ξ determine it, as in Doshi et al.'s
    Table 2; see `phase_of`. ξ is the nominal fraction of labels replaced, even if a replacement may equal the truth.

    Attributes:
        noise: ξ; by default that of the task's config, or else the share of wrong training labels.
    """

    name: ClassVar[str] = "inversion_phase"
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask", "test_labels"})
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"

    noise: float | None = None

    def __post_init__(self) -> None:
        if self.noise is not None:
            check_fraction("label noise", self.noise)

    def __call__(self, subject: Subject) -> InversionPhaseResult:
        """Return the phase.

        Raises:
            MissingNeedError: neither this setting nor the task gives the fraction of labels replaced.
        """
        self.require(subject)
        task = subject.task
        wrong = None if task.noisy is None else float(task.noisy.double().mean())
        noise, source = (self.noise, "as given") if self.noise is not None else _replaced(task, wrong)
        predicted = all_logits(subject).argmax(1)
        accuracies = {
            split.name: proportion(predicted[task.rows(split.ids)] == split.labels)
            for split in (training_set(task), *labelled_splits(task))
        }
        train, test, noisy = accuracies.pop("train"), accuracies.get("test"), accuracies.get("train_noisy")
        assert train is not None and test is not None
        phase = phase_of(train.value, test.value, noise, None if noisy is None else noisy.value)
        reason = _reason(train.value, test.value, noise, noisy)
        splits = {split: accuracies.get(split) for split in SPLITS}
        return InversionPhaseResult(phase, reason, train, test, splits, noise, source, wrong)


def _replaced(task: Task, wrong: float | None) -> tuple[float, str]:
    """Return ξ, and where it comes from."""
    noise = getattr(getattr(task, "config", None), "noise", None)
    if isinstance(noise, LabelNoise):
        return noise.fraction, "the nominal fraction of labels replaced, from the task's config"
    if wrong is None:
        raise MissingNeedError("'phase' needs to know which training labels are wrong, or its setting noise")
    return wrong, "the share of training labels that is wrong"


def _reason(train: float, test: float, noise: float, noisy: Estimate | None) -> str:
    """Return the bounds that decided, as a sentence."""
    bound = inversion_bound(noise)
    side = f"test {test:.3f} {'≥' if test >= HIGH else '<'} {HIGH}"
    if test < HIGH or train >= HIGH and train >= bound:
        return f"{side}, train {train:.3f} {'≥' if train >= HIGH else '<'} {HIGH}"
    if train < HIGH:
        return f"{side}, train {train:.3f} {'<' if train < bound else '≥'} 1.05 − ξ = {bound:.3g}, and < {HIGH}"
    both = f"{side}, train {train:.3f} in [{HIGH}, 1.05 − ξ = {bound:.3g}), where the table names two phases"
    if noisy is None:
        return f"{both}; the accuracy on wrong labels, which would decide, is not known"
    return f"{both}; train_noisy {noisy.value:.3f} decides where it is ≥ {HIGH} or ≤ {LOW}"


def _regions(noise: float) -> list[tuple[str, float, float, float, float]]:
    """Return each phase's name and rectangle: train from, to; test from, to."""
    bound = min(inversion_bound(noise), 1.0)
    low, high = min(bound, HIGH), max(bound, HIGH)
    bands = (
        (FULL, 0.0, low),
        (PARTIAL if bound < HIGH else UNDECIDED, low, high),
        (COEXISTENCE, high, 1.0),
    )
    above = [(name, left, right, HIGH, 1.0) for name, left, right in bands if right > left]
    return [*above, (MEMORIZATION, HIGH, 1.0, 0.0, HIGH), (FORGETTING, 0.0, HIGH, 0.0, HIGH)]
