"""Order in which a run fits its clean and its noisy training examples."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechmem.core.plugins import Analysis
from mechmem.core.randomness import derive_seed
from mechmem.core.results import Result
from mechmem.core.stats import UNKNOWN, Estimate, bootstrap, proportion, wilson
from mechmem.core.storage import record
from mechmem.core.subject import Subject
from mechmem.core.task import Task
from mechmem.errors import MissingNeedError
from mechmem.math.comparisons import precedence
from mechmem.math.training_phases import fitting_times
from mechmem.plotting.lines import lines
from mechmem.plotting.style import INK, SPLIT_STYLES, SplitStyle
from mechmem.training.predicted import recorded_right

if TYPE_CHECKING:
    import plotly.graph_objects as go

CLEAN, NOISY = "train_clean", "train_noisy"
DIFFERENCE = "noisy − clean"

RESAMPLES = 2000
"""Bootstrap resamples behind an interval of a median."""

_PANELS = {"accuracy": "given label predicted", "fitted": "given label predicted from here on"}


@record
@dataclasses.dataclass(frozen=True, eq=False)
class FittingOrderResult(Result):
    """Time at which each training example was fitted. All intervals are over the examples of this one network.

    A run is evaluated at log-spaced steps, so an example is known only to have been fitted between two evaluations, and
    only the order of evaluations is compared. If the run's training passes were observed, an evaluation is an epoch of
    them, and its step the one at the end of the epoch.

    Attributes:
        step: optimisation step of each evaluation. Shape (evaluation).
        ids: the training examples. Shape (example).
        noisy: whether the given label is wrong. Shape (example).
        fitted: number of the evaluation from which on the given label is always predicted; −1 for never. Shape
            (example).
        first: number of the first evaluation at which the given label is predicted; −1 for never. Shape (example).
        hits: number of examples of train_clean and of train_noisy whose given label is predicted at each evaluation.
            Shape (split, evaluation).
        collisions: number of other training examples with the same given label and the same left or right operand;
            None if the inputs are not pairs. Shape (example).
    """

    step: Int[Tensor, " evaluation"]
    ids: Int[Tensor, " example"]
    noisy: Bool[Tensor, " example"]
    fitted: Int[Tensor, " example"]
    first: Int[Tensor, " example"]
    hits: Int[Tensor, "split evaluation"]
    collisions: Int[Tensor, " example"] | None

    def to_frame(self) -> pd.DataFrame:
        """Return one row per training example: id, split, fitted, fitted_after, first, first_after, collisions.

        An example is fitted after step `fitted_after` and by step `fitted`, and likewise for `first`; NaN for never.
        """
        frame = pd.DataFrame({"id": self.ids.numpy(), "split": np.where(self.noisy, NOISY, CLEAN)})
        steps = np.append(self.step.numpy().astype(float), math.nan)
        before = np.concatenate([steps[:1], steps[:-2], steps[-1:]])
        for name, number in (("fitted", self.fitted.numpy()), ("first", self.first.numpy())):
            frame[name], frame[f"{name}_after"] = steps[number], before[number]
        frame["collisions"] = math.nan if self.collisions is None else self.collisions.numpy().astype(float)
        return frame

    def precedence(self, time: Literal["fitted", "first"] = "fitted") -> Estimate | None:
        """Return the probability that a noisy example is fitted before a clean one (a tie counts half).

        This is the Mann–Whitney statistic as a share; examples that are never fitted come last. The interval is
        Newcombe's (2006, method 5), which has a width even if the two splits do not overlap. None if a split is empty.
        """
        number = getattr(self, time).numpy()
        rank = np.where(number < 0, len(self.step), number)
        return precedence(rank[self.noisy.numpy()], rank[~self.noisy.numpy()])

    @property
    def verdict(self) -> str:
        """The split fitted first: "noisy first", "clean first" or "undecided" if `precedence` includes ½."""
        found = self.precedence()
        if found is None or found.low <= 0.5 <= found.high:
            return "undecided"
        return "noisy first" if found.low > 0.5 else "clean first"

    def summary(self) -> pd.DataFrame:
        """Return one row per quantity and split: quantity, split, value, low, high, n.

        Quantities: "fitted" and "first", the step by which half of the split is fitted or first predicted (infinite if
        half never is); "never", the share that is never fitted; "collisions", their mean number; "precedence" and
        "first precedence" (see `precedence`); "largest lead", the largest value of the difference curve over all
        evaluations, which the choice of the largest biases upwards.
        """
        rows: list[dict[str, object]] = []
        for split, mask in ((CLEAN, ~self.noisy.numpy()), (NOISY, self.noisy.numpy())):
            for name, number in (("fitted", self.fitted.numpy()[mask]), ("first", self.first.numpy()[mask])):
                rows.append(_line(name, split, self._half(number, f"{split} {name}")))
            rows.append(_line("never", split, proportion(self.fitted.numpy()[mask] < 0)))
            counts = np.zeros(0) if self.collisions is None else self.collisions.numpy()[mask].astype(float)
            rows.append(_line("collisions", split, bootstrap(np.mean, [counts], seed=0) if len(counts) else None))
        rows.append(_line("precedence", DIFFERENCE, self.precedence()))
        rows.append(_line("first precedence", DIFFERENCE, self.precedence("first")))
        curve = self.curves()
        lead = curve.loc[(curve["split"] == DIFFERENCE) & (curve["quantity"] == "accuracy")]
        if lead["value"].notna().any():
            top = lead.loc[lead["value"].idxmax()]
            rows.append(
                _line("largest lead", DIFFERENCE, Estimate(top["value"], top["low"], top["high"], len(self.ids)))
            )
        else:
            rows.append(_line("largest lead", DIFFERENCE, None))
        return pd.DataFrame(rows)

    def _half(self, number: Int[np.ndarray, " example"], stream: str) -> Estimate | None:
        """Step by which half of the examples are fitted, with its bootstrap interval.

        There are few evaluations, so a resample draws the number of examples at each.
        """
        if not len(number):
            return None
        steps = np.append(self.step.numpy().astype(float), math.inf)
        counts = np.bincount(np.where(number < 0, len(self.step), number), minlength=len(steps))
        draw = np.random.default_rng(derive_seed(0, f"fitting_order {stream}"))
        drawn = draw.multinomial(len(number), counts / len(number), size=RESAMPLES)
        value, *resampled = steps[_half_at(np.vstack([counts, drawn]))]
        low, high = np.quantile(resampled, [0.025, 0.975], method="inverted_cdf")
        return Estimate(float(value), float(low), float(high), len(number))

    def curves(self) -> pd.DataFrame:
        """Return one row per quantity, split and evaluation: quantity, split, step, value, low, high, n.

        "accuracy" is the share whose given label is predicted at that step, "fitted" the share predicted from then on.
        The split "noisy − clean" is their difference, with the interval that combines the two Wilson intervals
        (Newcombe 1998, method 10).
        """
        evaluation = np.arange(len(self.step))
        parts = []
        for quantity in _PANELS:
            both = []
            for split, mask, hits in zip((CLEAN, NOISY), (~self.noisy, self.noisy), self.hits, strict=True):
                number = self.fitted.numpy()[mask.numpy()]
                counts = hits.numpy() if quantity == "accuracy" else _reached(number, evaluation)
                both.append(_wilson_rows(counts, int(mask.sum())))
                parts.append(_curve(quantity, split, self.step, both[-1], int(mask.sum())))
            (p, p_low, p_high), (q, q_low, q_high) = both
            spread = np.hypot(q - q_low, p_high - p), np.hypot(q_high - q, p - p_low)
            difference = np.stack([q - p, q - p - spread[0], q - p + spread[1]])
            parts.append(_curve(quantity, DIFFERENCE, self.step, difference, len(self.ids)))
        return pd.concat(parts, ignore_index=True)

    def plot(self) -> go.Figure:
        """Return, over log steps, the shares of clean and noisy examples predicted as given, and from then on."""
        frame = self.curves().rename(columns={"step": "x", "split": "series"})
        frame["panel"] = [_PANELS[quantity] for quantity in frame["quantity"]]
        styles = {split: SPLIT_STYLES[split] for split in (CLEAN, NOISY)}
        styles[DIFFERENCE] = SplitStyle(DIFFERENCE, INK, "circle", "solid")
        y_title = "share of the split's examples (95 % interval)"
        return lines(frame, x_title="training step (log scale)", y_title=y_title, styles=styles, log_x=True)


def _line(quantity: str, split: str, found: Estimate | None) -> dict[str, object]:
    figures = dataclasses.asdict(found or UNKNOWN)
    return {"quantity": quantity, "split": split, **figures}


def _half_at(counts: Int[np.ndarray, "resample place"]) -> Int[np.ndarray, " resample"]:
    """Return the first position by which half of each row's counts is reached."""
    return (2 * np.cumsum(counts, 1) >= counts.sum(1, keepdims=True)).argmax(1)


def _reached(number: Int[np.ndarray, " example"], evaluation: Int[np.ndarray, " evaluation"]) -> np.ndarray:
    return np.searchsorted(np.sort(number[number >= 0]), evaluation, side="right")


def _wilson_rows(hits: Int[np.ndarray, " evaluation"], n: int) -> Float[np.ndarray, "3 evaluation"]:
    found = [wilson(int(count), n) for count in hits]
    return np.array([[math.nan] * 3 if one is None else [one.value, one.low, one.high] for one in found]).T


def _curve(quantity: str, split: str, step: Tensor, rows: Float[np.ndarray, "3 evaluation"], n: int) -> pd.DataFrame:
    values = dict(zip(("value", "low", "high"), rows, strict=True))
    return pd.DataFrame({"quantity": quantity, "split": split, "step": step.numpy(), **values, "n": n})


def label_collisions(task: Task) -> Int[Tensor, " example"] | None:
    """Count, per training example, the others with one operand and the given label in common; None without pairs."""
    if task.operands is None:
        return None
    given = task.given(task.train_ids)
    count = torch.zeros(len(given), dtype=torch.long)
    for operand in task.operands[task.rows(task.train_ids)].unbind(1):
        key = operand * task.n_classes + given
        count += torch.bincount(key)[key] - 1
    return count


@dataclasses.dataclass(frozen=True)
class FittingOrder(Analysis):
    """Compare when the wrong and the correct training labels are fitted, example by example.

    Wide networks fit wrong labels before correct ones (Liu & Lu 2026). The reason given by their follow-up (arXiv
    2610.11833): an example is helped by others that share an operand and the label. In a Latin square no two clean
    examples do, so with a share α of the grid in training, of which ξ is relabelled uniformly over all P classes, a
    noisy example has 2α(1 − 1/P) such others on average and a clean one 2αξ(1 − 1/P). Here they are counted from the
    labels.
    """

    name: ClassVar[str] = "fitting_order"
    needs: ClassVar[frozenset[str]] = frozenset({"run"})
    knows: ClassVar[frozenset[str]] = frozenset({"pairs", "given_labels", "true_train_labels", "noise_mask"})
    cites: ClassVar[str] = "Liu & Lu 2026, arXiv 2605.18022; follow-up arXiv 2610.11833"

    def __call__(self, subject: Subject) -> FittingOrderResult:
        """Return the order.

        Raises:
            MissingNeedError: there is no run, or the true training labels are not known.
        """
        self.require(subject)
        task = subject.task
        if task.noisy is None:
            raise MissingNeedError(f"{self.name!r} needs the true labels of the training examples")
        predicted = recorded_right(subject, task.train_ids, self.name)
        step, right = predicted.step, predicted.right
        fitted, first = fitting_times(right)
        noisy = task.noisy.numpy()
        hits = np.stack([right[:, ~noisy].sum(1), right[:, noisy].sum(1)])
        return FittingOrderResult(
            step=torch.from_numpy(step),
            ids=task.train_ids.clone(),
            noisy=task.noisy.clone(),
            fitted=torch.from_numpy(fitted),
            first=torch.from_numpy(first),
            hits=torch.from_numpy(hits),
            collisions=label_collisions(task),
        )
