"""What a paper claims, what would show it, and how that is judged: fixed before anything is run.

A quantity is measured once per run; runs of one arm differ in their seed alone. A condition compares the mean over
seeds with a bound, and holds (or fails) only where the whole 95 % interval lies on that side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd

from mechmem.core.stats import Estimate, across_runs
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.training.config import TrainConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

Scale = Literal["smoke", "small", "paper"]
Verdict = Literal["reproduced", "not reproduced", "not at this scale", "undecided", "pending", "not judged"]
Comparison = Literal["≥", ">", "≤", "≈"]
SCALES: tuple[Scale, ...] = get_args(Scale)

COLUMNS = ("arm", "seed", "quantity", "x", "value")
"""Columns of a claim's measurements: which runs, which seed, what was measured, where along a curve (NaN where it is a
single figure), and the value."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of an experiment.

    Attributes:
        arm: what sets it apart from the experiment's other runs; runs of one arm differ in their seed alone.
        config: how it is trained.
    """

    arm: str
    config: TrainConfig


Arms = Mapping[str, Callable[[Scale, int], TrainConfig]]
"""Named settings: the config of a scale and a seed."""


def seeded(scale: Scale, seeds: Mapping[Scale, range], arms: Arms) -> list[Trial]:
    """Return the trials of these arms, one per seed."""
    return [Trial(arm, config(scale, seed)) for arm, config in arms.items() for seed in seeds[scale]]


@dataclasses.dataclass(frozen=True)
class Value:
    """One quantity of one arm.

    Attributes:
        quantity: its name.
        arm: whose.
        x: where along a curve, or None for a single figure.
    """

    quantity: str
    arm: str
    x: float | None = None

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return the values by seed.

        Raises:
            ConfigError: the table holds no such quantity.
        """
        chosen = (table["quantity"] == self.quantity) & (table["arm"] == self.arm)
        if self.x is not None:
            chosen &= (table["x"] - self.x).abs() < 1e-9
        rows = table.loc[chosen]
        if rows.empty:
            raise ConfigError(f"no {self} was measured")
        return rows.groupby("seed")["value"].agg(lambda values: values.mean(skipna=False))

    def __str__(self) -> str:
        where = "" if self.x is None else f" at {self.x:g}"
        return f"{self.quantity}{where} [{self.arm}]"


@dataclasses.dataclass(frozen=True)
class Difference:
    """One quantity minus another, run by run of the same seed.

    Attributes:
        more: the first.
        less: what is subtracted.
    """

    more: Value
    less: Value

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return the differences by seed; a seed that was run in only one of two arms is left out.

        An event that never came in a run that was made is NaN here too: leaving it out would keep only the seeds that
        support the claim.
        """
        more, less = self.more.per_seed(table), self.less.per_seed(table)
        both = more.index.intersection(less.index)
        return more.loc[both] - less.loc[both]

    def __str__(self) -> str:
        return f"{self.more} − {self.less}"


@dataclasses.dataclass(frozen=True)
class Condition:
    """A bound on a quantity's mean over seeds.

    Attributes:
        of: the quantity, or a difference of two.
        comparison: "≥", ">", "≤", or "≈": within `tolerance` of the bound.
        bound: the bound, fixed before the run.
        tolerance: for "≈", how far from the bound is close enough.
    """

    of: Value | Difference
    comparison: Comparison
    bound: float
    tolerance: float = 0.0

    @property
    def allowed(self) -> tuple[float, float]:
        """The interval that the mean has to lie in."""
        return {
            "≥": (self.bound, math.inf),
            ">": (math.nextafter(self.bound, math.inf), math.inf),
            "≤": (-math.inf, self.bound),
            "≈": (self.bound - self.tolerance, self.bound + self.tolerance),
        }[self.comparison]

    def judge(self, table: pd.DataFrame) -> Finding:
        """Compare the mean and its 95 % interval over seeds with what is allowed."""
        values = self.of.per_seed(table)
        finite = [float(value) for value in values if math.isfinite(value)]
        # A seed without the quantity (an event that never came) is no seed that supports the claim.
        estimate = across_runs(finite) if len(finite) == len(values) else None
        if estimate is None:
            missing = len(values) - len(finite)
            return Finding(str(self), None, "undecided", f"not measured in {missing} run{'s' * (missing != 1)}")
        low, high = self.allowed
        inside = low <= estimate.low and estimate.high <= high
        outside = estimate.high < low or high < estimate.low
        return Finding(str(self), estimate, "holds" if inside else "fails" if outside else "undecided")

    def __str__(self) -> str:
        tolerance = f" ± {self.tolerance:g}" if self.comparison == "≈" else ""
        return f"{self.of} {self.comparison} {self.bound:g}{tolerance}"


def at_least(quantity: str, arm: str, bound: float, x: float | None = None) -> Condition:
    """Return a lower bound on a quantity."""
    return Condition(Value(quantity, arm, x), "≥", bound)


def at_most(quantity: str, arm: str, bound: float, x: float | None = None) -> Condition:
    """Return an upper bound on a quantity."""
    return Condition(Value(quantity, arm, x), "≤", bound)


def close_to(quantity: str, arm: str, figure: float, tolerance: float) -> Condition:
    """Return the condition that a quantity comes back."""
    return Condition(Value(quantity, arm), "≈", figure, tolerance)


def more(
    quantity: str, arm: str, than: str, bound: float = 0.0, *, other: str = "", x: float | None = None
) -> Condition:
    """Return the condition that a quantity of one arm exceeds that of another (or another quantity) by a bound."""
    # More than by nothing is not more: two arms that are both at the ceiling do not differ.
    comparison = ">" if bound == 0 else "≥"
    return Condition(Difference(Value(quantity, arm, x), Value(other or quantity, than, x)), comparison, bound)


Outcome = Literal["holds", "fails", "undecided"]


@record
@dataclasses.dataclass(frozen=True)
class Finding:
    """What became of one condition.

    Attributes:
        condition: the condition in words.
        estimate: mean over seeds with its 95 % interval; None where it could not be measured.
        outcome: "holds" or "fails" where the whole interval is on one side of the bound, otherwise "undecided".
        reason: why it could not be measured, or "".
    """

    condition: str
    estimate: Estimate | None
    outcome: Outcome
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a paper, and how it is checked.

    Attributes:
        key: short name, unique in its recipe.
        statement: the claim in a line.
        experiment: what is run and measured, in a line.
        paper: the paper's own figure, or "" where none is known.
        trials: the runs at a scale.
        measure: measures one run: a frame with columns quantity, x, value.
        conditions: what the claim says of the measurements.
        premises: what has to hold for the claim to be testable at all.
        scale_limit: why a failure below the paper's own scale would say nothing, or "".
        draw: redraws the paper's figure from the claim's measurements, or None.
        pending: why it cannot be checked yet, or "".
    """

    key: str
    statement: str
    experiment: str = ""
    paper: str = ""
    trials: Callable[[Scale], Sequence[Trial]] = lambda scale: ()
    measure: Callable[[Subject], pd.DataFrame] | None = None
    conditions: Sequence[Condition] = ()
    premises: Sequence[Condition] = ()
    scale_limit: str = ""
    draw: Callable[[pd.DataFrame], go.Figure] | None = None
    pending: str = ""

    def __post_init__(self) -> None:
        """Validate: a claim that nothing is asked of would come out as reproduced."""
        if not self.pending and not self.conditions:
            raise ConfigError(f"claim {self.key!r} has no condition, and is not pending")

    def judge(self, table: pd.DataFrame, scale: Scale) -> tuple[Verdict, str, tuple[Finding, ...]]:
        """Return the verdict, its reason, and what became of every premise and condition.

        "reproduced": every condition holds. "not reproduced": one fails. "not at this scale": a premise does not hold,
        an interval still includes its bound, or a condition fails where the recipe said beforehand that this scale
        cannot show it; at the paper's own scale the first two are "undecided". The smoke scale judges nothing.
        """
        if self.pending:
            return "pending", self.pending, ()
        premises = [condition.judge(table) for condition in self.premises]
        conditions = [condition.judge(table) for condition in self.conditions]
        findings = (*premises, *conditions)
        if scale == "smoke":
            return "not judged", "the smoke scale runs the code and shows nothing", findings
        open_: Verdict = "undecided" if scale == "paper" else "not at this scale"
        unmet = [finding.condition for finding in premises if finding.outcome != "holds"]
        failed = [finding.condition for finding in conditions if finding.outcome == "fails"]
        undecided = [finding.condition for finding in conditions if finding.outcome == "undecided"]
        if unmet:
            return open_, f"premise not shown: {'; '.join(unmet)}", findings
        if failed and self.scale_limit and scale != "paper":
            return "not at this scale", f"fails: {'; '.join(failed)}. {self.scale_limit}", findings
        if failed:
            return "not reproduced", f"fails: {'; '.join(failed)}", findings
        if undecided:
            return open_, f"undecided: {'; '.join(undecided)}", findings
        return "reproduced", "", findings


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A paper as a list of claims.

    Attributes:
        name: the recipe's name.
        title: the paper.
        source: where it is found.
        claims: its claims, in the paper's order.
        caveats: what a reader has to know of the settings, a sentence each.
    """

    name: str
    title: str
    source: str
    claims: tuple[Claim, ...]
    caveats: tuple[str, ...] = ()

    def claim(self, key: str) -> Claim:
        """Return the claim of this key."""
        return next(claim for claim in self.claims if claim.key == key)

    def trials(self, scale: Scale) -> dict[str, TrainConfig]:
        """Return every run that some claim rests on, by digest, in the order of the claims."""
        return {
            trial.config.digest: trial.config
            for claim in self.claims
            if not claim.pending
            for trial in claim.trials(scale)
        }
