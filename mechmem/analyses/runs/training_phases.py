"""Memorization, circuit formation and cleanup: their ends in a run, and whether its curves move as the paper says."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.analyses.logits.progress_measures import NETWORK, ProgressMeasures
from mechmem.core.config import check_number
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.training_phases import EXPECTED, FLAT_GINI, FLAT_LOSS, PhaseEnd, holds, phase_ends
from mechmem.models.hooks.running import device_of
from mechmem.plotting.progress import phases_figure

if TYPE_CHECKING:
    import plotly.graph_objects as go

LOSSES = {
    "train_loss": ("train", "loss"),
    "test_loss": ("test", "loss"),
    "restricted_loss": ("test", "restricted_loss"),
    "excluded_loss": ("train", "excluded_loss"),
}
"""The loss curves: split, and column of `progress_measures`."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class TrainingPhasesResult(Result):
    """Curves of the progress measures over a run, and the phases derived from them.

    Attributes:
        step: optimisation step of each checkpoint. Shape (checkpoint).
        curves: each measure at every checkpoint: train_loss, test_loss, restricted_loss (test) and excluded_loss
            (train) in nats, train_accuracy, test_accuracy, gini_MATRIX, squared_weights. Shape (checkpoint) each.
        ends: end of each phase, in the order of the phases.
        key: the key frequencies, numbered from 1. Shape (key).
        key_source: where they come from.
    """

    step: Int[Tensor, " checkpoint"]
    curves: dict[str, Float[Tensor, " checkpoint"]]
    ends: tuple[PhaseEnd, ...]
    key: Int[Tensor, " key"]
    key_source: str

    def end(self, phase: str) -> PhaseEnd:
        """Return where a phase ends.

        Raises:
            KeyError: there is no phase of this name.
        """
        return {each.phase: each for each in self.ends}[phase]

    def spans(self) -> list[tuple[str, int, int]]:
        """Return name, first and last step of each phase that has both, in order."""
        found, before = [], int(self.step[0])
        for each in self.ends:
            if each.step is None or each.step <= before:
                break
            found.append((each.phase, before, each.step))
            before = each.step
        return found

    def to_frame(self) -> pd.DataFrame:
        """Return one row per phase: phase, starts, ends, low, high (steps; NaN for none), definition, reason."""
        first = {name: start for name, start, _ in self.spans()}
        rows = [
            {"phase": each.phase, "starts": first.get(each.phase), **dataclasses.asdict(each)} for each in self.ends
        ]
        frame = pd.DataFrame(rows).rename(columns={"step": "ends"})
        steps = ["starts", "ends", "low", "high"]
        frame[steps] = frame[steps].astype(float)
        return frame.reindex(columns=["phase", *steps, "definition", "reason"])

    def changes(self) -> pd.DataFrame:
        """Return one row per phase and curve that the paper describes: phase, measure, start, end, expected, holds."""
        rows = []
        at = {step: place for place, step in enumerate(self.step.tolist())}
        for phase, first, last in self.spans():
            for measure, expected in EXPECTED[phase].items():
                for name in self._named(measure):
                    curve = self.curves[name]
                    start, end = float(curve[at[first]]), float(curve[at[last]])
                    flat = FLAT_GINI if measure == "gini" else FLAT_LOSS * float(self.curves["train_loss"][0])
                    row = {"phase": phase, "measure": name, "start": start, "end": end, "expected": expected}
                    rows.append({**row, "holds": holds(expected, start, end, flat)})
        return pd.DataFrame(rows, columns=["phase", "measure", "start", "end", "expected", "holds"])

    def table(self) -> pd.DataFrame:
        """Return the curves, one row per checkpoint: step, and a column per measure."""
        return pd.DataFrame({"step": self.step.numpy(), **{name: x.numpy() for name, x in self.curves.items()}})

    def plot(self) -> go.Figure:
        """Return losses, Gini coefficients and squared weights over log steps, with shaded phases.

        A note below says why a phase has no end.
        """
        titles = {"train_loss": "train", "test_loss": "test", "restricted_loss": "restricted, test"}
        titles |= {"excluded_loss": "excluded, train"}
        panels = {"loss": "cross-entropy (nats)", "gini": "Gini of wave norms", "weights": "sum of squared weights"}
        frames = []
        for name, values in self.curves.items():
            kind, _, matrix = name.partition("_")
            panel = "loss" if name in titles else "gini" if kind == "gini" else "weights" if kind == "squared" else ""
            series = titles.get(name) or (matrix.replace("_", " ") if kind == "gini" else "all parameters")
            if panel:
                columns = {"panel": panel, "x": self.step.numpy(), "series": series, "value": values.numpy()}
                frames.append(pd.DataFrame(columns))
        spans = [(name, float(first), float(last)) for name, first, last in self.spans()]
        return phases_figure(pd.concat(frames, ignore_index=True), panels, spans, self._missing())

    def _missing(self) -> list[str]:
        """Say why a phase has no span, for each such phase."""
        found = {name for name, _, _ in self.spans()}
        said, start = [], True
        for each in self.ends:
            if each.phase not in found:
                if each.reason:
                    why = f"no end, because {each.reason}"
                elif start:
                    why = f"it would end at step {each.step:,}, not after its start"
                else:
                    why = f"it ends at step {each.step:,}, and has no start"
                said.append(f"{each.phase}: {why}")
            start = each.phase in found
        return said

    def _named(self, measure: str) -> list[str]:
        return [name for name in self.curves if name == measure or (measure == "gini" and name.startswith("gini_"))]


@dataclasses.dataclass(frozen=True)
class TrainingPhases(Analysis):
    """Split a run into memorization, circuit formation and cleanup, from the progress measures at its checkpoints.

    The three phases and the course of the curves are the paper's: a network memorizes (train and excluded loss fall),
    forms the circuit before test accuracy shows it (excluded loss rises, restricted loss and weights fall), and cleans
    up (test loss and weights drop, the Gini coefficients rise). The paper draws the boundaries by eye: at 1,400, 9,400
    and 14,000 epochs in its main run. The rules here are this package's, and not fitted to any run:

    - memorization ends where the excluded loss on the training examples is lowest, among the checkpoints before the
      test loss drops; the training loss must be below `fitted` of its first value there.
    - circuit formation ends at the first checkpoint from which the test loss is below `dropped` of its highest value,
      to the end of the run.
    - cleanup ends at the first checkpoint from which the test loss is below `fitted` of its first value, to the end.

    A boundary is known only up to the distance between two checkpoints. A run that generalizes at once, or never, has
    no such phases, and the result says why. With label noise the training loss is that of the given labels.

    Attributes:
        fitted: share of its first value below which a loss counts as fitted.
        dropped: share of its highest value below which the test loss counts as dropping.
        multiple: smallest ratio of a key frequency's energy to the background's median (see `progress_measures`).
        relative: smallest ratio of a key frequency's norm to the strongest's.
    """

    name: ClassVar[str] = "training_phases"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = ProgressMeasures.knows
    cites: ClassVar[str] = "Nanda et al. 2023, arXiv 2301.05217"

    fitted: float = 0.1
    dropped: float = 0.5
    multiple: float = 10.0
    relative: float = 0.25

    def __post_init__(self) -> None:
        ProgressMeasures(multiple=self.multiple, relative=self.relative)
        for what, value in (("fitted", self.fitted), ("dropped", self.dropped)):
            check_number(what, value, above=0)
            if value >= 1:
                raise ConfigError(f"{what} must be below 1, got {value}")

    def __call__(self, subject: Subject) -> TrainingPhasesResult:
        """Return curves and phases.

        Raises:
            MissingNeedError: the subject has no run, fewer than three checkpoints, or lacks what `progress_measures`
                needs; or there is no test split with known labels.
        """
        self.require(subject)
        assert subject.run is not None
        steps = subject.run.checkpoint_steps()
        if len(steps) < 3:
            raise MissingNeedError(f"{self.name!r} needs a run with at least three checkpoints, got {len(steps)}")
        measure = ProgressMeasures(multiple=self.multiple, relative=self.relative)
        measure.require(subject)
        # Found once, because every checkpoint is measured with the same frequencies.
        key, source = measure.key_of(subject)
        rows = [self._row(measure, subject, step, key, source) for step in steps]
        curves = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
        found = {name: curve.numpy() for name, curve in curves.items()}
        ends = phase_ends(steps, found, fitted=self.fitted, dropped=self.dropped)
        if not len(key):
            # Nothing is excluded then, so the excluded loss is the training loss.
            reason = f"no key frequency stands out in the logits of {source}"
            ends = (dataclasses.replace(ends[0], step=None, low=None, high=None, reason=reason), *ends[1:])
        return TrainingPhasesResult(torch.tensor(steps), curves, ends, key, source)

    def _row(
        self, measure: ProgressMeasures, subject: Subject, step: int, key: Int[Tensor, " key"], source: str
    ) -> dict[str, float]:
        assert subject.run is not None
        then = subject.with_model(subject.run.model_at(step).to(device_of(subject.model)))
        frame = measure.measured(then, key, source).to_frame().set_index("split")
        if "test" not in frame.index:
            raise MissingNeedError(f"{self.name!r} needs a test split with known labels on the grid of the group")
        found = {name: float(frame.loc[split, column]) for name, (split, column) in LOSSES.items()}
        found |= {f"{split}_accuracy": float(frame.loc[split, "accuracy"]) for split in ("train", "test")}
        whole = frame.loc[NETWORK]
        return found | {name: float(whole[name]) for name in frame if name.startswith(("gini_", "squared_"))}
