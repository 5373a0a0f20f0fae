"""Claims of a paper, and their verdicts; conditions are fixed before any run.

A quantity is measured once per run; runs of one arm differ only in their seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import pandas as pd

from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.recipes.conditions import Condition, Finding
from mechmem.training.config import TrainConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

Scale = Literal["smoke", "small", "paper"]
Verdict = Literal["reproduced", "not reproduced", "not at this scale", "undecided", "pending", "not judged"]
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


def continued(trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return trials of an arm with so many seeds; further ones follow the last, in the task too if its seeds do."""
    last = max(trials, key=lambda trial: trial.config.seed)
    both = all(getattr(trial.config.task, "seed", None) == trial.config.seed for trial in trials)
    found = list(trials)
    for seed in range(last.config.seed + 1, last.config.seed + 1 + max(0, count - len(trials))):
        task = dataclasses.replace(last.config.task, seed=seed) if both else last.config.task  # pyright: ignore[reportCallIssue]
        found.append(Trial(last.arm, dataclasses.replace(last.config, task=task, seed=seed)))
    return found


Arms = Mapping[str, Callable[[Scale, int], TrainConfig]]
"""Named settings: each maps a scale and a seed to a config."""


def seeded(scale: Scale, seeds: Mapping[Scale, range], arms: Arms) -> list[Trial]:
    """Return the trials of these arms, one per seed."""
    return [Trial(arm, config(scale, seed)) for arm, config in arms.items() for seed in seeds[scale]]


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

    def runs(self, scale: Scale, seeds: int | None = None) -> list[Trial]:
        """Return the trials at a scale, with so many seeds per arm if there are fewer; further ones follow the last."""
        if self.pending:
            return []
        by_arm: dict[str, dict[int, Trial]] = {}
        for trial in self.trials(scale):
            by_arm.setdefault(trial.arm, {}).setdefault(trial.config.seed, trial)
        return [trial for trials in by_arm.values() for trial in continued(list(trials.values()), seeds or 0)]

    def base(self, scale: Scale) -> int:
        """Return the number of seeds of each arm to start with; the least, if arms differ."""
        arms = [trial.arm for trial in self.runs(scale)]
        return min((arms.count(arm) for arm in set(arms)), default=0)

    def may_be_decided(self, verdict: Verdict, findings: Sequence[Finding]) -> bool:
        """Return whether more seeds may decide the claim: no premise fails, and every run was measured."""
        failed = any(finding.outcome == "fails" for finding in findings[: len(self.premises)])
        return verdict == "undecided" and not failed and all(finding.estimate is not None for finding in findings)

    def __post_init__(self) -> None:
        """Validate: a claim without conditions would count as reproduced."""
        if not self.pending and not self.conditions:
            raise ConfigError(f"claim {self.key!r} has no condition, and is not pending")

    def judge(self, table: pd.DataFrame, scale: Scale) -> tuple[Verdict, str, tuple[Finding, ...]]:
        """Return the verdict, its reason, and the finding of every premise and condition.

        "reproduced": every condition holds. "not reproduced": one fails. "undecided": an interval includes its bound,
        that of a premise or of a condition, or something was not measured in every run. "not at this scale": below the
        paper's scale a premise fails, so that the claim cannot be tested, or a condition that the recipe declared
        beyond this scale beforehand. At the smoke scale nothing is judged.
        """
        if self.pending:
            return "pending", self.pending, ()
        premises = [condition.judge(table) for condition in self.premises]
        conditions = [condition.judge(table) for condition in self.conditions]
        findings = (*premises, *conditions)
        if scale == "smoke":
            return "not judged", "the smoke scale only checks that the code runs", findings
        false = [finding.condition for finding in premises if finding.outcome == "fails"]
        unmet = [finding.condition for finding in premises if finding.outcome == "undecided"]
        failed = [finding.condition for finding in conditions if finding.outcome == "fails"]
        undecided = [finding.condition for finding in conditions if finding.outcome == "undecided"]
        if false:
            wrong: Verdict = "undecided" if scale == "paper" else "not at this scale"
            return wrong, f"premise fails: {'; '.join(false)}", findings
        if unmet:
            return "undecided", f"premise not shown: {'; '.join(unmet)}", findings
        if failed and self.scale_limit and scale != "paper":
            return "not at this scale", f"fails: {'; '.join(failed)}. {self.scale_limit}", findings
        if failed:
            return "not reproduced", f"fails: {'; '.join(failed)}", findings
        if undecided:
            return "undecided", f"undecided: {'; '.join(undecided)}", findings
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
        """Return the config of every run that the claims start with, by digest, in the order of the claims."""
        return {trial.config.digest: trial.config for claim in self.claims for trial in claim.runs(scale)}
