"""Measurements of a network at every checkpoint of its run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechmem.analyses.measuring import Kind, Measure, What, of_states
from mechmem.core.arguments import checked_but
from mechmem.core.config import check_different
from mechmem.core.renamed import current_label
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.tables import Table, under_each_other
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, ScoreError, unknown_name
from mechmem.models.hooks.running import device_of
from mechmem.plotting.layout import stack
from mechmem.plotting.over_training import drawn
from mechmem.training.load import load
from mechmem.training.progress import reporter

if TYPE_CHECKING:
    import plotly.graph_objects as go


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """One measurement at every step.

    Attributes:
        kind: "extractor", "score", "example_score", "analysis", "structure" or "rule".
        table: one or several rows per step; a step at which the measurement failed has a row with the reason.
        values: for a score, its value for each neuron (or example) at each step, NaN where the measurement failed.
            Shape (checkpoint, neuron).
    """

    kind: Kind
    table: Table
    values: Float[Tensor, "checkpoint neuron"] | None = None


@record
@dataclasses.dataclass(frozen=True, eq=False)
class OverTraining(Result):
    """Measurements over a run.

    Attributes:
        name: the network's name.
        step: optimisation step of each checkpoint. Shape (checkpoint).
        measured: each measurement by its name, in the order requested.
        chance: accuracy of a blind guess, 1 / classes.
    """

    name: str
    step: Int[Tensor, " checkpoint"]
    measured: Mapping[str, Measured]
    chance: float

    def frame(self, what: str) -> pd.DataFrame:
        """Return the table of one measurement, one or several rows per step.

        Beside `step` and `reason` (why there is no number, or "") it has
            for an extractor: split, value, low, high, n (accuracies with 95 % Wilson intervals);
            for a score: mean and the quantiles q05, q25, q50, q75, q95 over neurons, n; for a score of examples the
            same on each split of the training set;
            for "structure": quantity (S, kappa, heldout_vote, Z), value, low, high, n, verdict;
            for "discover_rule": quantity (agreement, contradicted, noise_left, latin), value, low, high, n, verdict;
            for an analysis: the columns of its own table (its own column "step", if any, is renamed "own_step").

        Raises:
            UnknownNameError: it was not measured.
        """
        return self._of(what).table.frame()

    def values(self, what: str) -> Float[Tensor, "checkpoint neuron"]:
        """Return a score's value for each neuron at each step.

        Raises:
            UnknownNameError: it was not measured.
            ConfigError: it is not a score.
        """
        found = self._of(what)
        if found.values is None:
            raise ConfigError(f"{what!r} is not a score but of kind {found.kind!r}: use frame({what!r})")
        return found.values

    def _of(self, what: str) -> Measured:
        what = current_label(what, self.measured)
        if what not in self.measured:
            raise unknown_name("measurement", what, self.measured)
        return self.measured[what]

    def to_frame(self) -> pd.DataFrame:
        """Return all tables concatenated: what, step, and the columns of all of them."""
        table = under_each_other([self.frame(name).assign(what=name) for name in self.measured])
        return table.reindex(columns=["what", *table.columns.drop("what")])

    def plot(self, what: str | Sequence[str] | None = None) -> go.Figure:
        """Return panels over log steps: accuracies on the four splits, S and κ, bands over neurons, lines of tables.

        A table has a line per combination of its names (split, component …; if there are over 12, on test only), and
        only a mean over neurons or examples. A panel that cannot be drawn says why; the frame holds its numbers.

        Args:
            what: which measurements; by default all. Several extractors also share a panel of their test accuracies.

        Raises:
            UnknownNameError: one of them was not measured.
        """
        names = [what] if isinstance(what, str) else list(self.measured if what is None else what)
        if not names:
            raise ConfigError("what must be at least one measurement, got none; leave it out for all of them")
        chosen = {name: (self._of(name).kind, self.frame(name)) for name in names}
        return stack(drawn(chosen, self.chance))


@checked_but("subject")
def over_training(
    subject: Subject | str | Path,
    what: What | Sequence[What],
    *,
    steps: Sequence[int] | None = None,
    progress: bool = False,
) -> OverTraining:
    """Measure a network at every checkpoint of its run. Each checkpoint is opened once.

        curves = mm.over_training(network, ["raw", "frequency+quadratic", "ipr", "structure"])
        curves.plot()
        curves.frame("structure")

    Args:
        subject: a network with a run; or the path of a run directory.
        what: one or several names of extractors ("frequency+quadratic"), scores of neurons ("ipr") or of examples
            ("self_influence"), analyses ("logit_spectrum"), "structure" for the held-out structure, "discover_rule",
            or such plugins themselves.
        steps: steps of the checkpoints; by default all.
        progress: whether to show a bar.

    Raises:
        MissingNeedError: the subject has no run. (If a single measurement lacks something, its rows say so.)
        UnknownNameError: nothing has this name; the message lists all names.
        ConfigError: no run, nothing to measure, a name that several kinds share, or an analysis of a whole run.
        RunDirectoryError: there is no checkpoint at a step; or the run is damaged.
    """
    if not isinstance(subject, Subject | str | Path):
        raise ConfigError(f"over_training takes a Subject with a run, or a run's path; got a {type(subject).__name__}")
    subject = subject if isinstance(subject, Subject) else load(subject)
    if subject.run is None:
        raise MissingNeedError(f"{subject.name!r} has no run, so there are no earlier states to measure")
    asked = [what] if isinstance(what, What) else list(what)
    if not asked:
        raise ConfigError("nothing to measure: name an extractor, a score, an analysis or 'structure'")
    found_by_name = [of_states(each, subject) for each in asked]
    check_different("what", [name for name, *_ in found_by_name])
    measurements: dict[str, tuple[Kind, Measure]] = {name: (kind, measure) for name, kind, measure in found_by_name}
    chosen = _checkpoints(subject, steps)
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in measurements}
    values: dict[str, list[Tensor]] = {name: [] for name in measurements}
    with reporter(f"{subject.name}, checkpoints", 0, len(chosen), show=progress) as report:
        for done, step in enumerate(chosen, 1):
            then = subject.with_model(subject.run.model_at(step).to(device_of(subject.model)))
            for name, (_, measure) in measurements.items():
                try:
                    frame, each = measure(then)
                except (MissingNeedError, ScoreError) as error:
                    frame, each = pd.DataFrame({"reason": [str(error)]}), torch.empty(0)
                own = frame.rename(columns={"step": "own_step"})
                own.insert(0, "step", step)
                found[name].append(own)
                values[name].append(each)
            report.step(done, None)
    measured = {
        name: Measured(kind, Table.of(under_each_other(found[name])), _matrix(values[name]))
        for name, (kind, _) in measurements.items()
    }
    return OverTraining(subject.name, torch.tensor(chosen), measured, 1 / subject.task.n_classes)


def _checkpoints(subject: Subject, steps: Sequence[int] | None) -> list[int]:
    assert subject.run is not None
    there = subject.run.checkpoint_steps()
    if steps is None and there:
        return there
    wanted = sorted({int(step) for step in ([] if steps is None else steps)})
    listed = ", ".join(map(str, there)) or "none"
    missing = [step for step in wanted if step not in there]
    if missing:
        raise RunDirectoryError(f"the run has no checkpoint at step {missing[0]}; it has {listed}")
    if not wanted:
        raise ConfigError(f"no step to measure at; the run's checkpoints: {listed}")
    return wanted


def _matrix(values: list[Tensor]) -> Float[Tensor, "checkpoint neuron"] | None:
    width = max(map(len, values))
    if width == 0:
        return None
    missing = torch.full((width,), math.nan, dtype=torch.float64)
    return torch.stack([each if len(each) else missing for each in values])
