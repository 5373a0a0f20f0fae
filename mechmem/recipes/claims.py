"""Claims of a paper, their conditions and their verdicts; conditions are fixed before any run.

A quantity is measured once per run; runs of one arm differ only in their seed. A condition compares the mean over
seeds with a bound, and holds or fails only if the whole 95 % interval lies on one side.
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
"""Columns of a claim's measurements; x is the position along a curve (NaN for a single figure)."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of an experiment.

    Attributes:
        arm: name of its setting; runs of one arm differ only in their seed.
        config: its training config.
    """

    arm: str
    config: TrainConfig


Arms = Mapping[str, Callable[[Scale, int], TrainConfig]]
"""Named settings: each maps a scale and a seed to a config."""


def seeded(scale: Scale, seeds: Mapping[Scale, range], arms: Arms) -> list[Trial]:
    """Return the trials of these arms, one per seed."""
    return [Trial(arm, config(scale, seed)) for arm, config in arms.items() for seed in seeds[scale]]


@dataclasses.dataclass(frozen=True)
class Value:
    """One quantity of one arm.

    Attributes:
        quantity: its name.
        arm: the arm it is measured on.
        x: position along a curve, or None for a single figure.
    """

    quantity: str
    arm: str
    x: float | None = None

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return one value per seed.

        Raises:
            ConfigError: the table lacks the quantity.
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
    """One quantity minus another, paired by seed.

    Attributes:
        more: the minuend.
        less: the subtrahend.
    """

    more: Value
    less: Value

    def per_seed(self, table: pd.DataFrame) -> pd.Series:
        """Return one difference per seed that both arms have.

        If an event never happened in a run, the difference is NaN: dropping that seed would keep only those that
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
        comparison: "≥", ">", "≤", or "≈" (within `tolerance` of the bound).
        bound: the bound, fixed before the run.
        tolerance: largest distance from the bound, for "≈".
    """

    of: Value | Difference
    comparison: Comparison
    bound: float
    tolerance: float = 0.0

    @property
    def allowed(self) -> tuple[float, float]:
        """The interval of allowed means."""
        return {
            "≥": (self.bound, math.inf),
            ">": (math.nextafter(self.bound, math.inf), math.inf),
            "≤": (-math.inf, self.bound),
            "≈": (self.bound - self.tolerance, self.bound + self.tolerance),
        }[self.comparison]

    def judge(self, table: pd.DataFrame) -> Finding:
        """Compare the mean over seeds and its 95 % interval with the allowed interval."""
        values = self.of.per_seed(table)
        finite = [float(value) for value in values if math.isfinite(value)]
        # A seed without the quantity (the event never happened) does not support the claim.
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
    """Return the condition that a quantity is within a tolerance of a figure."""
    return Condition(Value(quantity, arm), "≈", figure, tolerance)


def more(
    quantity: str, arm: str, than: str, bound: float = 0.0, *, other: str = "", x: float | None = None
) -> Condition:
    """Return the condition that a quantity exceeds that of another arm, or the quantity `other`, by a bound."""
    # With bound 0 equality does not count: two arms at the ceiling do not differ.
    comparison = ">" if bound == 0 else "≥"
    return Condition(Difference(Value(quantity, arm, x), Value(other or quantity, than, x)), comparison, bound)


Outcome = Literal["holds", "fails", "undecided"]


@record
@dataclasses.dataclass(frozen=True)
class Finding:
    """Outcome of one condition.

    Attributes:
        condition: the condition in words.
        estimate: mean over seeds with its 95 % interval; None if it could not be measured.
        outcome: "holds" or "fails" if the whole interval is on one side of the bound, otherwise "undecided".
        reason: reason why it could not be measured, or "".
    """

    condition: str
    estimate: Estimate | None
    outcome: Outcome
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim of a paper, with its runs, measurement and conditions.

    Attributes:
        key: short name, unique in its recipe.
        statement: the claim in one line.
        experiment: the runs and the measurement in one line.
        paper: the paper's own figure, or "" if none is known.
        trials: the runs at a scale.
        measure: measures one run; returns a frame with columns quantity, x, value.
        conditions: conditions on the measurements that express the claim.
        premises: conditions without which the claim cannot be tested.
        scale_limit: reason why a failure below the paper's scale is not evidence against the claim, or "".
        draw: redraws the paper's figure from the claim's measurements, or None.
        pending: reason why it cannot be checked yet, or "".
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
        """Validate: a claim without conditions would count as reproduced."""
        if not self.pending and not self.conditions:
            raise ConfigError(f"claim {self.key!r} has no condition, and is not pending")

    def judge(self, table: pd.DataFrame, scale: Scale) -> tuple[Verdict, str, tuple[Finding, ...]]:
        """Return the verdict, its reason, and the finding of every premise and condition.

        "reproduced": every condition holds. "not reproduced": one fails. "not at this scale": a premise does not hold,
        an interval includes its bound, or a condition fails that the recipe declared beyond this scale beforehand; at
        the paper's scale the first two are "undecided". At the smoke scale nothing is judged.
        """
        if self.pending:
            return "pending", self.pending, ()
        premises = [condition.judge(table) for condition in self.premises]
        conditions = [condition.judge(table) for condition in self.conditions]
        findings = (*premises, *conditions)
        if scale == "smoke":
            return "not judged", "the smoke scale only checks that the code runs", findings
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
        source: its authors, year and identifier.
        claims: its claims, in the paper's order.
        caveats: deviations from the paper's settings, one sentence each.
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
        """Return the config of every run that a claim needs, by digest, in the order of the claims."""
        return {
            trial.config.digest: trial.config
            for claim in self.claims
            if not claim.pending
            for trial in claim.trials(scale)
        }
