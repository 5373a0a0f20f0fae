"""Weight edits along their strength, and what each forgets for the same accuracy lost."""

from __future__ import annotations

import dataclasses
import os.path
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_different, check_fraction
from mechmem.core.plugins import Surgery, named
from mechmem.core.results import Result
from mechmem.core.roles import Roles
from mechmem.core.storage import record
from mechmem.core.subject import Subject, subject_of
from mechmem.core.task import Task
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.models.reading.curvature_basis import edited_weights
from mechmem.models.reading.low_rank import matching
from mechmem.plotting.lines import lines
from mechmem.scorecard.edited import Edited
from mechmem.tasks.config import SPLITS

if TYPE_CHECKING:
    import plotly.graph_objects as go

Told = Literal["nothing", "truth"]

WHOLE = "raw"
"""The network itself, in the first row."""

PRICES = (0.01, 0.03, 0.1)
"""Accuracy lost at which edits are compared."""

DEFAULT_EDITS = (
    "curvature_directions",
    "random_directions",
    "low_rank",
    "drop(weight_norm(of=w))",
    "drop(strength)",
    "shared_subspaces",
    "drop_memory",
)
"""Edits by default; `low_rank` lowers the weights that `curvature_directions` edits, so that the two compare."""


@record
@dataclasses.dataclass(frozen=True, eq=False)
class EditCurves(Result):
    """Accuracy while the weights of a network are edited more and more, by several surgeries, without retraining.

    The first row is the network itself.

    Attributes:
        edits: each row's edit.
        strengths: the value of the setting by which the edit grows, from weak to strong; NaN where there is none. Shape
            (row).
        settings: each row's surgery with all its settings.
        n: number of examples of each of the four splits (0 if it is empty or unknown). Shape (split).
        correct: number of correct predictions; −1 for a split without examples, with a logit that is not finite, or
            with an edit that cannot be made. Shape (row, split).
        n_train: number of training examples.
        fitted: share of the training examples that get the label given to them, correct or wrong; NaN likewise. Shape
            (row).
        reasons: reason why an edit cannot be made, or "", for each row.
    """

    edits: tuple[str, ...]
    strengths: Float[Tensor, " row"]
    settings: tuple[str, ...]
    n: Int[Tensor, " split"]
    correct: Int[Tensor, "row split"]
    n_train: int
    fitted: Float[Tensor, " row"]
    reasons: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per edit and strength: edit, strength, setting, accuracies, reason.

        The accuracies are "train" (the labels given in training), and those of the four splits: "train_clean",
        "train_noisy" (the wrong label is still answered), "train_noisy_true" (the true one is) and "test".
        """
        shares = torch.where(self.correct >= 0, self.correct / self.n, torch.nan).numpy()
        columns = {
            "edit": self.edits,
            "strength": self.strengths.numpy(),
            "setting": self.settings,
            "train": self.fitted.numpy(),
            **{split: shares[:, place] for place, split in enumerate(SPLITS)},
            "reason": self.reasons,
        }
        return pd.DataFrame(columns)

    def at_price(self, lost: float, told: Told = "nothing", noise: float = 0.0) -> pd.DataFrame:
        """Return one row per edit, at the strength that costs no more than this share of the clean training examples.

        Told nothing, an edit's price is the share of all training examples that it keeps from the label given to them,
        and the strongest setting of at most that price is taken. Wrong labels that it forgets count against it: unless
        more of them are answered than before, at most lost / (1 − ξ) of the clean accuracy is lost, whatever the share
        ξ of wrong labels. Whoever expects a share of wrong labels can allow for all of them to go: `noise`.

        Told the truth, the price is the clean accuracy lost, and of the settings of at most that price the one that
        forgets most is taken. No user could choose so; it is the bound of what each edit can do.

        Columns as in `to_frame`, and lost, told, clean_lost and test_change. An edit all of whose settings cost more is
        the network itself, without a strength.

        Raises:
            ConfigError: `lost` or `noise` is outside [0, 1].
            UnknownNameError: there is no such `told`.
            MissingNeedError: the price is not known: a logit of the network is not finite, or, told the truth, which
                labels are wrong is unknown.
        """
        check_fraction("lost", lost)
        check_fraction("noise", noise)
        check_choice("knowledge", told, get_args(Told))
        frame = self.to_frame()
        price = "train" if told == "nothing" else "train_clean"
        whole = frame.iloc[0]
        if np.isnan(whole[price]):
            what = "a training example" if told == "nothing" else "a training example with a label known to be right"
            raise MissingNeedError(
                f"the price of an edit is the accuracy lost on training examples, and {what} is missing"
            )
        allowed = noise + (1 - noise) * lost if told == "nothing" else lost
        taken = []
        for edit, rows in frame.iloc[1:].groupby("edit", sort=False):
            # Shares of counts: whole examples are far apart beside this.
            cheap = rows.loc[(whole[price] - rows[price]) <= allowed + 1e-9]
            if rows["train"].isna().all():
                chosen = rows.iloc[0]
            elif cheap.empty:
                chosen = whole.copy()
                chosen["edit"] = edit
            elif told == "nothing" or cheap["train_noisy"].isna().all():
                chosen = cheap.iloc[-1]
            else:
                chosen = cheap.loc[cheap["train_noisy"].idxmin()]
            taken.append(chosen)
        found = pd.DataFrame(taken, columns=frame.columns).reset_index(drop=True)
        found.insert(0, "lost", lost)
        found.insert(1, "told", told)
        found["clean_lost"] = whole["train_clean"] - found["train_clean"]
        found["test_change"] = found["test"] - whole["test"]
        return found

    def readings(self, prices: Sequence[float] = PRICES, noise: float = 0.0) -> pd.DataFrame:
        """Return the rows of `at_price` for several prices, told nothing and, where the truth is known, told it.

        Raises:
            ConfigError: there is no price, or a number is outside [0, 1].
            MissingNeedError: a logit of the network is not finite, so that the price is not known.
        """
        if not len(prices):
            raise ConfigError("prices must be at least one number, got none")
        known = ("nothing", "truth") if self.n[0] else ("nothing",)
        return pd.concat([self.at_price(each, told, noise) for told in known for each in prices], ignore_index=True)

    def plot(self) -> go.Figure:
        """Return a figure of the wrong labels still answered and the test accuracy over the clean accuracy lost.

        Where it is unknown which labels are wrong, test accuracy alone over the agreement with the given labels lost.
        """
        frame = self.to_frame()
        known = bool(self.n[0])
        price = "train_clean" if known else "train"
        frame["x"] = frame[price].iloc[0] - frame[price]
        whole, rest = frame.iloc[[0]], frame.iloc[1:].loc[lambda rows: rows["train"].notna()]
        panels = {"train_noisy": "wrong labels still answered"} if known and self.n[1] else {}
        parts = []
        for split, panel in (panels | {"test": "test accuracy"}).items():
            for edit, rows in rest.groupby("edit", sort=False):
                line = pd.concat([whole, rows]).sort_values("x", kind="stable")
                parts.append(
                    line.assign(series=edit, panel=panel, value=line[split])[["x", "series", "panel", "value"]]
                )
        if not parts:
            parts = [whole.assign(series=WHOLE, panel="test accuracy", value=whole["test"])]
        title = "accuracy lost on clean training examples" if known else "agreement with the given labels lost"
        figure = lines(pd.concat(parts), x_title=title, y_title="share of the examples")
        figure.update_yaxes(range=[-0.03, 1.03])
        return figure


@checked
def edit_curves(
    subject: nn.Module | Subject,
    edits: str | Sequence[str] | Mapping[str, Sequence[float]] | None = None,
    *,
    task: Task | None = None,
    roles: Roles | None = None,
) -> EditCurves:
    """Edit a network's weights more and more, by several surgeries, and measure the four splits along the way.

    A surgery has a setting that says how much it changes: a share of the curvature, a rank, a share of the neurons. The
    result has a row for each value of it, and reads the edits at an equal price, the accuracy that each costs on clean
    training examples. An edit that does not fit the network or its task has a row with the reason.

        curves = mm.edit_curves(network, ["low_rank", "drop(weight_norm)"])
        curves.at_price(0.03)

    Args:
        subject: a subject, or a network.
        edits: names of surgeries, e.g. "drop(ipr)", or a mapping from them to values of that setting, from weak to
            strong. A surgery without such a setting, or with a value of it in its name, is measured once. By default
            surgeries that are told nothing, with ranks of the weights that `curvature_directions` edits.
        task: the network's task; only with a network.
        roles: the network's roles; by default its own.

    Raises:
        UnknownNameError: there is no such surgery, or no such setting or layer of it; the message suggests the nearest.
        ConfigError: there is no edit, a value is not allowed or given twice, values do not go from weak to strong, or a
            surgery has no such setting.
        NotFiniteError: a weight is NaN or infinite.
    """
    subject = subject_of(subject, task, roles)
    asked = _asked(_default(subject) if edits is None else [edits] if isinstance(edits, str) else edits)
    measured = Edited(subject.task)
    measured.add(subject)
    rows = [(WHOLE, float("nan"), WHOLE, "")]
    for name, own in asked.items():
        for value, surgery in own:
            try:
                measured.add(surgery(subject))
                rows.append((name, value, surgery.label(), ""))
            except ScoreError as error:  # so small a share is no neuron, or so large a one all
                measured.skip()
                rows.append((name, value, surgery.label(), str(error)))
            except MissingNeedError as error:  # no value of the setting would help
                measured.skip()
                rows.append((name, float("nan"), name, str(error)))
                break
    names, values, settings, reasons = zip(*rows, strict=True)
    strengths = torch.tensor(values, dtype=torch.float64)
    return EditCurves(
        names, strengths, settings, measured.n, measured.correct, measured.n_train, measured.fitted, reasons
    )


def _asked(edits: Sequence[str] | Mapping[str, Sequence[float]]) -> dict[str, list[tuple[float, Surgery]]]:
    """Return the surgeries of each edit, with their strengths."""
    if not len(edits):
        raise ConfigError("edits must be at least one surgery, got none; leave it out for those that are told nothing")
    check_different("edits", [*edits])
    asked: dict[str, list[tuple[float, Surgery]]] = {}
    for name in edits:
        plain = named("surgeries", name)
        own = edits[name] if isinstance(edits, Mapping) else _values(plain)
        if isinstance(edits, Mapping) and not (plain.dial and len(own)):
            what = "no values" if plain.dial else f"no setting that makes {plain.name!r} stronger, but values of one"
            raise ConfigError(f"edits: there are {what} for {name!r}")
        values = [getattr(each, "item", lambda each=each: each)() for each in own]
        check_different(f"edits[{name!r}]", values)
        asked[name] = [(value, named("surgeries", name, **{plain.dial: value})) for value in values]
        _check_grows(name, plain, values)
        asked[name] = asked[name] or [(getattr(plain, plain.dial) if plain.dial else float("nan"), plain)]
    return asked


def _check_grows(name: str, surgery: Surgery, values: Sequence[float]) -> None:
    """Refuse values that do not go from weak to strong, by which a reading at a price takes the strongest."""
    check_different(f"edits[{name!r}]", values)
    for kind in (int, float):  # a rank and a share of the full one do not compare
        own = [value for value in values if isinstance(value, kind)]
        ordered = sorted(own, reverse=surgery.dial_values[:1] > surgery.dial_values[-1:])
        if own != ordered:
            raise ConfigError(f"edits[{name!r}] must go from weak to strong, as {ordered} does, got {list(values)}")


def _values(surgery: Surgery) -> tuple[float, ...]:
    """Return the values to go through; none for a surgery that is measured once."""
    if not surgery.dial:
        return ()
    default = next(field.default for field in dataclasses.fields(surgery) if field.name == surgery.dial)
    return surgery.dial_values if getattr(surgery, surgery.dial) == default else ()


def _default(subject: Subject) -> list[str]:
    """Return the default edits, with the ranks of the weights that `curvature_directions` edits."""
    try:
        names = edited_weights(subject)
    except MissingNeedError:
        return list(DEFAULT_EDITS)
    # One pattern in place of twenty names, where it stands for the same.
    pattern = f"{os.path.commonprefix(names)}*"
    layers = pattern if matching(subject, pattern) == names else " ".join(names)
    return [f"low_rank({layers})" if name == "low_rank" else name for name in DEFAULT_EDITS]
