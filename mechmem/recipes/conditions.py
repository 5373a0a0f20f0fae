"""Conditions on what was measured: a mean over seeds against a bound.

Seeds are added until a condition is decided. A condition holds or fails only if its whole interval lies on one side of
the bound, and the interval of every look is so wide that a condition whose true mean is the bound is decided in at most
5 % of cases, over all looks together.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import pandas as pd

from mechmem.core.stats import Estimate, across_runs
from mechmem.core.storage import record
from mechmem.errors import ConfigError

Comparison = Literal["≥", ">", "≤", "≈"]
Outcome = Literal["holds", "fails", "undecided"]

LOOKS = (3, 5, 8, 12, 20)
"""Numbers of seeds after which a condition is looked at, until it is decided."""

LEVEL = 1 - 0.0125
"""Level of the interval of every look.

Equal levels are Pocock's design (Biometrika 1977), here with Student's t. With this one a normal mean that is equal to
the bound is decided at one of the looks with probability .049 (simulated, 400,000 draws).
"""


def looks(base: int, most: int) -> list[int]:
    """Return the numbers of seeds after which a claim is looked at.

    Args:
        base: number of seeds of each arm to start with.
        most: largest number of seeds.
    """
    return [base, *(each for each in LOOKS if base < each <= most)]


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
        """Compare the mean over seeds, with the interval of a look, with the allowed interval."""
        values = self.of.per_seed(table)
        finite = [float(value) for value in values if math.isfinite(value)]
        # A seed without the quantity (the event never happened) does not support the claim.
        estimate = across_runs(finite) if len(finite) == len(values) else None
        wide = across_runs(finite, LEVEL)
        if estimate is None or wide is None:
            missing = len(values) - len(finite)
            return Finding(str(self), None, "undecided", f"not measured in {missing} run{'s' * (missing != 1)}")
        first = self._outcome(across_runs(finite[: LOOKS[0]]))
        return Finding(str(self), estimate, self._outcome(wide), low=wide.low, high=wide.high, at_first=first)

    def _outcome(self, estimate: Estimate | None) -> Outcome:
        assert estimate is not None
        low, high = self.allowed
        inside = low <= estimate.low and estimate.high <= high
        outside = estimate.high < low or high < estimate.low
        return "holds" if inside else "fails" if outside else "undecided"

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


@record
@dataclasses.dataclass(frozen=True)
class Finding:
    """Outcome of one condition.

    Attributes:
        condition: the condition in words.
        estimate: mean over seeds with its 95 % interval; None if it could not be measured.
        outcome: "holds" or "fails" if the whole interval [low, high] is on one side of the bound, or "undecided".
        reason: reason why it could not be measured, or "".
        low: lower end of the interval that decides, which is wider than the estimate's (see `LEVEL`).
        high: its upper end.
        at_first: the outcome of the first three seeds by their interval of 95 %, a rule that does not allow for looking
            again; "" if it could not be measured.
    """

    condition: str
    estimate: Estimate | None
    outcome: Outcome
    reason: str = ""
    low: float = math.nan
    high: float = math.nan
    at_first: str = ""
