"""Steps at which a run fitted its labels, grokked, and unlearned the wrong labels."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechmem.analyses.runs.training_curves import TrainingCurves, TrainingHistory
from mechmem.core.config import check_fraction
from mechmem.core.plugins import Analysis
from mechmem.core.results import Result
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.plotting.style import INK, LEFT_OF_ONE, SPLIT_STYLES, translucent
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

EVENTS = {
    "fit_clean": ("train_clean", "first evaluation with train_clean >= {fitted:g}"),
    "fit_noisy": ("train_noisy", "first evaluation with train_noisy >= {fitted:g}"),
    "grok": ("test", "first evaluation from which test >= {fitted:g} to the end of the history"),
    "unlearn": ("train_noisy", "first evaluation after fit_noisy from which train_noisy < {forgotten:g} to the end"),
}
"""Each event: the split whose accuracy defines it, and the definition."""

DELAYS = (("fit_clean", "fit_noisy"), ("fit_clean", "grok"), ("fit_noisy", "grok"), ("fit_noisy", "unlearn"))
"""The pairs of events whose delay is reported."""

_DASHES = {"fit_clean": "dash", "fit_noisy": "dashdot", "grok": "solid", "unlearn": "dot"}


@record
@dataclasses.dataclass(frozen=True)
class Event:
    """An event between two evaluations of a run.

    Attributes:
        name: "fit_clean", "fit_noisy", "grok" or "unlearn".
        split: the split whose accuracy defines the event.
        definition: condition that defines the event.
        lower: optimisation step of the last evaluation before the event (equal to `upper` if it had happened by the
            first evaluation). None if it never happened.
        upper: optimisation step of the first evaluation after the event. None if it never happened.
        reason: why there is no time, or "".
    """

    name: str
    split: str
    definition: str
    lower: int | None
    upper: int | None
    reason: str = ""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class TrainingTimesResult(Result):
    """The events of a run, each within the bracket of steps between two evaluations.

    Attributes:
        events: one per kind of event, in the order of `EVENTS`.
        history: the accuracies that define them.
    """

    events: tuple[Event, ...]
    history: TrainingHistory

    def event(self, name: str) -> Event:
        """Return an event.

        Raises:
            KeyError: there is no event of this name.
        """
        return {event.name: event for event in self.events}[name]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per event and per delay between two: kind, name, step, low, high, definition, reason.

        For an event, `step` is the first evaluation after it and low … high its bracket; for a delay, they are the
        distance of those evaluations, and the shortest and longest delay that the brackets allow. All in optimisation
        steps, NaN if there is none.
        """
        rows = [
            _row("event", event.name, event.upper, event.lower, event.upper, event.definition, event.reason)
            for event in self.events
        ]
        for first, second in DELAYS:
            a, b = self.event(first), self.event(second)
            name, definition = f"{first} to {second}", f"{second} minus {first}"
            if a.lower is None or a.upper is None or b.lower is None or b.upper is None:
                missing = " and ".join(event.name for event in (a, b) if event.upper is None)
                rows.append(_row("delay", name, None, None, None, definition, f"there is no {missing}"))
            else:
                rows.append(
                    _row("delay", name, b.upper - a.upper, b.lower - a.upper, b.upper - a.lower, definition, "")
                )
        return pd.DataFrame(rows)

    def plot(self) -> go.Figure:
        """Return the accuracies over log steps, each event a line at the first evaluation after it and a band.

        The band is the bracket. An event that never happened is not drawn.
        """
        figure = self.history.plot()
        seen = [event for event in self.events if event.upper is not None]
        for place, event in enumerate(seen):
            assert event.lower is not None and event.upper is not None
            # Each label has its own height, so that events of one evaluation do not overlap.
            top = 1.06 + 0.07 * place
            x0, x1 = (max(float(step), LEFT_OF_ONE) for step in (event.lower, event.upper))
            color = SPLIT_STYLES[event.split].color
            common = {"legendgroup": event.name, "showlegend": False, "name": event.name}
            band = {"fill": "toself", "fillcolor": translucent(color, 0.12), "line": {"width": 0}, "hoverinfo": "skip"}
            figure.add_scatter(x=[x0, x1, x1, x0], y=[0, 0, top, top], mode="lines", **band, **common)
            figure.add_scatter(
                x=[x1, x1],
                y=[0, top],
                mode="lines+text",
                text=["", f" {event.name.replace('_', ' ')}"],
                textposition="middle left" if x1 > self.history.step[-1] / 4 else "middle right",
                textfont={"size": 12, "color": INK},
                line={"color": color, "width": 1.5, "dash": _DASHES[event.name]},
                hovertemplate=f"{event.name}: after step {event.lower:,}, by step {event.upper:,}<extra></extra>",
                **common,
            )
        figure.update_yaxes(range=[-0.03, 1.09 + 0.07 * len(seen)], tickvals=[0, 0.2, 0.4, 0.6, 0.8, 1.0])
        figure.update_layout(height=440)
        return figure


def _row(
    kind: str, name: str, step: int | None, low: int | None, high: int | None, definition: str, reason: str
) -> dict[str, object]:
    values = {
        key: math.nan if value is None else float(value) for key, value in zip(_STEPS, (step, low, high), strict=True)
    }
    return {"kind": kind, "name": name, **values, "definition": definition, "reason": reason}


_STEPS = ("step", "low", "high")


@dataclasses.dataclass(frozen=True)
class TrainingTimes(Analysis):
    """Measure when each kind of label was fitted, when the network grokked, and when it unlearned the wrong labels.

    With regularization a network first memorizes, then groks, then unlearns the noise (Doshi et al. 2024). "To the end"
    means at every later evaluation, so a run that ends early may show an event that a longer run would not.

    Attributes:
        fitted: accuracy from which a split counts as fitted, and on the test set the rule as learned.
        forgotten: accuracy on the given wrong labels below which they count as unlearned.
    """

    name: ClassVar[str] = "training_times"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"given_labels", "true_train_labels", "noise_mask", "test_labels"})
    cites: ClassVar[str] = "Doshi et al. 2024, arXiv 2310.13061"

    fitted: float = 0.9
    forgotten: float = 0.5

    def __post_init__(self) -> None:
        check_fraction("fitted", self.fitted)
        check_fraction("forgotten", self.forgotten)

    def __call__(self, subject: Subject) -> TrainingTimesResult:
        """Return the events.

        Raises:
            MissingNeedError: the subject has no run.
        """
        self.require(subject)
        history = TrainingCurves()(subject)
        accuracy = dict(zip(SPLITS, history.accuracy.numpy(), strict=True))
        clean, noisy, test = (accuracy[split] for split in ("train_clean", "train_noisy", "test"))
        steps = history.step.numpy()
        events = [
            self._event("fit_clean", steps, clean, clean >= self.fitted),
            self._event("fit_noisy", steps, noisy, noisy >= self.fitted),
            self._event("grok", steps, test, _stays(test >= self.fitted), reached=test >= self.fitted),
        ]
        below = noisy < self.forgotten
        was_fitted = np.cumsum(noisy >= self.fitted) > 0
        unlearned = was_fitted & _stays(below)
        events.append(self._event("unlearn", steps, noisy, unlearned, reached=was_fitted & below, after=was_fitted))
        return TrainingTimesResult(tuple(events), history)

    def _event(
        self,
        name: str,
        steps: np.ndarray,
        accuracy: Float[np.ndarray, " evaluation"],
        happened: Bool[np.ndarray, " evaluation"],
        reached: Bool[np.ndarray, " evaluation"] | None = None,
        after: Bool[np.ndarray, " evaluation"] | None = None,
    ) -> Event:
        """Bracket the event between two evaluations, or say why there is none."""
        split, definition = EVENTS[name]
        definition = definition.format(fitted=self.fitted, forgotten=self.forgotten)
        known = np.isfinite(accuracy)
        if not known.any():
            return Event(name, split, definition, None, None, f"{split} is empty or not known")
        if happened.any():
            first = int(happened.argmax())
            return Event(name, split, definition, int(steps[max(first - 1, 0)]), int(steps[first]))
        last = int(steps[-1])
        if after is not None and not after.any():
            reason = f"{split} never reached {self.fitted:g} in {last} steps (highest {accuracy[known].max():.3f})"
        elif reached is not None and reached.any():
            first = int(steps[reached.argmax()])
            reason = f"reached at step {first}, but not held to step {last}"
        elif after is not None:
            reason = f"{split} stayed at {self.forgotten:g} or above to step {last} (last {accuracy[-1]:.3f})"
        else:
            reason = f"{split} never reached {self.fitted:g} in {last} steps (highest {accuracy[known].max():.3f})"
        return Event(name, split, definition, None, None, reason)


def _stays(holds: Bool[np.ndarray, " evaluation"]) -> Bool[np.ndarray, " evaluation"]:
    """Return whether a condition holds at this evaluation and at all later ones."""
    return np.logical_and.accumulate(holds[::-1])[::-1]
