"""Measurements that recipes share, as rows (quantity, x, value), and their figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.core.plugins import named
from mechmem.core.stats import across_runs
from mechmem.core.subject import Subject
from mechmem.math.logits import answers_of
from mechmem.models.networks.config import MLPConfig
from mechmem.neurons.ablate import ablate
from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.lines import lines, plain_style
from mechmem.plotting.matrices import DIVERGING, Panel, heatmaps
from mechmem.plotting.style import SPLIT_STYLES, SplitStyle
from mechmem.scorecard.audit import split_accuracies
from mechmem.scorecard.extractor import RAW, extractor
from mechmem.scorecard.structure import held_out_structure
from mechmem.scorecard.votes import vote_by_group
from mechmem.tasks.config import SPLITS, ModularConfig
from mechmem.training.run import Run

Rows = Iterable[tuple[str, float, float]]
NAMES = {
    "train_clean": "train clean",
    "train_noisy": "train noisy",
    "train_noisy_true": "noisy (true)",
    "test": "test",
    "test_in_group": "test nonzero",
}
"""Names of the splits in a recipe's conditions."""

STYLES: Mapping[str, SplitStyle] = {NAMES[split]: style for split, style in SPLIT_STYLES.items()}


def measure(*parts: Callable[[Subject], Rows]) -> Callable[[Subject], pd.DataFrame]:
    """Join several measurements into one."""

    def measured(subject: Subject) -> pd.DataFrame:
        rows = [row for part in parts for row in part(subject)]
        return pd.DataFrame(rows, columns=["quantity", "x", "value"])

    return measured


def accuracies(*names: str) -> Callable[[Subject], Rows]:
    """Accuracy on every split after each extractor: "test", "test of frequency"; "train" is the whole training set."""

    def rows(subject: Subject) -> Rows:
        for name in names:
            after = "" if name == RAW else f" of {name}"
            predictor = extractor(name)(subject)
            for split, cell in split_accuracies(predictor, subject.task).items():
                # A split may have no examples (no label noise).
                if cell.estimate is not None:
                    yield NAMES[split] + after, math.nan, cell.estimate.value
            ids = subject.task.train_ids
            fitted = answers_of(predictor(ids)) == subject.task.given(ids)
            yield f"train{after}", math.nan, float(fitted.double().mean())

    return rows


def settings(subject: Subject) -> Rows:
    """α, ξ, weight decay and width of a run."""
    assert isinstance(subject.run, Run) and subject.run.config is not None
    task, model = subject.run.config.task, subject.run.config.model
    assert isinstance(task, ModularConfig) and isinstance(model, MLPConfig)
    yield "alpha", math.nan, task.train_fraction
    yield "xi", math.nan, task.noise.fraction
    yield "weight decay", math.nan, subject.run.config.weight_decay
    yield "width", math.nan, model.width


def history(subject: Subject) -> Rows:
    """Accuracy on every split at every evaluation."""
    assert subject.run is not None
    table = subject.run.history()
    for split in SPLITS:
        for step, value in zip(table["step"], table[split], strict=True):
            if value is not None and math.isfinite(value):
                yield f"{NAMES[split]} during training", float(step), float(value)


def structure(subject: Subject) -> Rows:
    """Held-out structure: κ, its Z, and the held-out vote; NaN with too few held-out inputs."""
    found = held_out_structure(subject)
    yield "kappa", math.nan, math.nan if found.kappa is None else found.kappa.value
    yield "Z", math.nan, math.nan if found.Z is None else found.Z
    yield "held-out vote", math.nan, math.nan if found.heldout_vote is None else found.heldout_vote.value


def label_vote(subject: Subject) -> Rows:
    """Test accuracy of a vote of the given labels that knows only the group."""
    found = vote_by_group(subject.task).test
    if found is not None:
        yield "label vote", math.nan, found.value


def pruning(by: str, fractions: Sequence[float]) -> Callable[[Subject], Rows]:
    """Accuracy on every split after cumulative ablation: "lowest first: test" at each fraction of ablated neurons."""
    titles = {"low": "lowest first", "high": "highest first", "random": "random"}

    def rows(subject: Subject) -> Rows:
        frame = ablate(subject, by=by, points=len(fractions) - 1).to_frame()
        for order, title in titles.items():
            for split in SPLITS:
                found = frame.loc[(frame["order"] == order) & (frame["split"] == split)]
                mean = found.groupby("fraction")["accuracy"].mean()
                if not mean.notna().all():
                    continue
                steps = mean.index.to_numpy(float)
                for fraction in fractions:
                    # In a narrow network no number of neurons is exactly this fraction.
                    nearest = int(np.abs(steps - fraction).argmin())
                    yield f"{title}: {NAMES[split]}", fraction, float(mean.iloc[nearest])

    return rows


def ipr_distribution(bins: int = 25) -> Callable[[Subject], Rows]:
    """Share of neurons that are alive, per bin of IPR and with an IPR below .5 (a cosine has 1, noise about .05).

    A neuron is alive if its weight norm exceeds a thousandth of the layer's root mean square: the IPR ignores length
    and would also count neurons that weight decay has shrunk to nothing.
    """

    def rows(subject: Subject) -> Rows:
        length = named("neuron_scores", "weight_norm")(subject).values.double()
        alive = (length > 1e-3 * length.square().mean().sqrt()).numpy()
        every = named("neuron_scores", "ipr")(subject).values.numpy()
        values = every[alive]
        counts, edges = np.histogram(values, bins, (0, 1))
        for left, right, count in zip(edges, edges[1:], counts, strict=False):
            yield "share of neurons", float(left + right) / 2, float(count) / len(every)
        yield "share alive with IPR < 0.5", math.nan, float((values < 0.5).sum()) / len(every)

    return rows


def pooled(table: pd.DataFrame, *, of_curves: bool) -> pd.DataFrame:
    """Pool seeds: one row per arm, quantity and x, with the mean and its 95 % interval (NaN for a single seed).

    Args:
        table: a claim's measurements.
        of_curves: whether to keep rows with an x or single figures.
    """
    seeds: dict[tuple[str, str, float], list[float]] = {}
    for arm, quantity, x, value in zip(*(table[name] for name in ("arm", "quantity", "x", "value")), strict=True):
        if math.isfinite(x) == of_curves:
            seeds.setdefault((arm, quantity, x if of_curves else 0.0), []).append(value)
    estimates = {key: across_runs(values) for key, values in seeds.items()}
    rows = [(*key, e.value, e.low, e.high) for key, e in estimates.items() if e is not None]
    return pd.DataFrame(rows, columns=["arm", "quantity", "x", "value", "low", "high"])


def by_arm(table: pd.DataFrame, quantities: Sequence[str]) -> go.Figure:
    """Draw accuracies as single figures: one row per arm, one mark per quantity.

    Args:
        table: a claim's measurements.
        quantities: the accuracies to draw; splits keep their usual style.
    """
    found = pooled(table, of_curves=False)
    found = found.loc[found["quantity"].isin(list(quantities))]
    others = [name for name in quantities if name not in STYLES]
    # The first colours of the palette belong to the splits.
    styles = {name: STYLES.get(name) or plain_style(name, others.index(name) + 4) for name in quantities}
    return dot_plot(found.rename(columns={"arm": "extractor", "quantity": "series"}), styles=styles)


def curves(
    table: pd.DataFrame,
    series: Mapping[str, str],
    *,
    x_title: str,
    y_title: str = "accuracy",
    log_x: bool = False,
    panels: bool = True,
) -> go.Figure:
    """Draw curves with bands over seeds.

    Args:
        table: a claim's measurements.
        series: titles of the quantities to draw.
        x_title: title of the x axis, with its unit.
        y_title: title of the y axis.
        log_x: whether x is logarithmic.
        panels: whether each arm has its own panel; otherwise each arm is a series.
    """
    found = pooled(table, of_curves=True)
    found = found.loc[found["quantity"].isin(list(series))]
    frame = found[["x", "value", "low", "high"]].copy()
    frame["series"] = [series[name] for name in found["quantity"]] if panels else found["arm"]
    if panels and len(set(found["arm"])) > 1:
        frame["panel"] = found["arm"]
    drawn = pd.DataFrame(frame)
    return lines(drawn, x_title=x_title, y_title=y_title, styles=STYLES, log_x=log_x, markers=False)


def plane(table: pd.DataFrame, quantity: str, *, less: str = "", panel: str = "") -> go.Figure:
    """Draw one quantity over the plane of label noise and training fraction.

    Args:
        table: a claim's measurements; every arm has the quantities "alpha" and "xi", and `panel` if it is given.
        quantity: the quantity to draw.
        less: quantity to subtract from it, or "".
        panel: quantity with one panel per value, or "".
    """
    single = table.loc[table["x"].isna()]
    wide = single.pivot_table(index="arm", columns="quantity", values="value", aggfunc="mean", sort=False)
    title = f"{quantity} − {less}" if less else quantity
    wide = wide.assign(drawn=wide[quantity] - wide[less] if less else wide[quantity])
    parts = list(wide.groupby(panel)) if panel else [("", wide)]
    panels = []
    for value, part in parts:
        grid = part.pivot_table(index="alpha", columns="xi", values="drawn", aggfunc="mean")
        # Coordinates as text, because the grid is coarse and uneven.
        x, y = ([f"{each:g}" for each in axis] for axis in (grid.columns, grid.index))
        heading = f"{panel} {value:g}" if panel else title
        panels.append(Panel(heading, grid.to_numpy(float), np.array(x), np.array(y)))
    figure = heatmaps(
        panels,
        x_title="label noise ξ",
        y_title="training fraction α",
        z_title="accuracy" if panel else "difference" if less else title,
        hover="ξ %{x}, α %{y}: %{z:.3f}<extra></extra>",
    )
    if less:
        limit = float(wide["drawn"].abs().max()) or 1.0
        figure.update_layout(coloraxis={"colorscale": DIVERGING, "cmin": -limit, "cmax": limit})
    # By default Plotly parses numeric text as numbers.
    return figure.update_xaxes(type="category").update_yaxes(type="category")


def single_figures(*names: str) -> Callable[[pd.DataFrame], go.Figure]:
    """Draw these quantities of every arm as single figures."""

    def draw(table: pd.DataFrame) -> go.Figure:
        found = pooled(table, of_curves=False)
        found = found.loc[found["quantity"].isin(names)]
        styles = {name: plain_style(name, number) for number, name in enumerate(names)}
        return dot_plot(found.rename(columns={"arm": "extractor", "quantity": "series"}), styles=styles)

    return draw
