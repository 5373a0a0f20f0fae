"""One panel of lines per thing that was measured over training."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.special import stdtrit

from mechmem.errors import ConfigError
from mechmem.plotting.lines import LEFT_OF_ONE, PALETTE, lines
from mechmem.plotting.style import FAINT, SPLITS, SplitStyle

X_TITLE = "training step (log scale)"
STRUCTURE_STYLES = {
    "S": SplitStyle("S", PALETTE[0], "circle", "solid"),
    "kappa": SplitStyle("κ", PALETTE[1], "diamond", "dash"),
    "heldout_vote": SplitStyle("held-out vote", PALETTE[2], "square", "dot"),
}
_BANDS = (("5 – 95 %", "q05", "q95"), ("25 – 75 %", "q25", "q75"))


def drawn(measured: Mapping[str, tuple[str, pd.DataFrame]], chance: float) -> dict[str, go.Figure]:
    """Return the panels by title.

    Args:
        measured: kind ("extractor", "structure", "score" or "analysis") and table of each thing, by name.
        chance: accuracy of a blind guess.

    Raises:
        ConfigError: a table has no numbers to draw over steps.
    """
    panels: dict[str, go.Figure] = {}
    extractors = {name: frame for name, (kind, frame) in measured.items() if kind == "extractor" and "value" in frame}
    if len(extractors) > 1:
        tests = [frame.loc[frame["split"] == "test"].assign(series=name) for name, frame in extractors.items()]
        panels["test accuracy"] = _accuracy(pd.concat(tests, ignore_index=True), chance)
    for name, (kind, frame) in measured.items():
        if set(frame.columns) == {"step", "reason"}:
            panels[name] = _nothing(str(frame["reason"].iloc[-1]))
        elif kind == "extractor":
            panels[name] = _accuracy(frame.assign(series=frame["split"]), chance)
        elif kind == "structure":
            figures = frame.loc[frame["quantity"].isin(list(STRUCTURE_STYLES))]
            shown = figures.assign(series=figures["quantity"])
            panels["held-out structure"] = _lines(shown, "value (95 % interval)", STRUCTURE_STYLES)
        elif kind == "score":
            panels[f"{name}, distribution"] = _bands(frame, name)
        else:
            panels |= _means(name, frame)
    return panels


def _nothing(reason: str) -> go.Figure:
    """A panel that says why it is empty."""
    text = "<br>".join(textwrap.wrap(f"not measured: {reason}", 90))
    figure = lines(pd.DataFrame({"x": [], "series": [], "value": []}), x_title=X_TITLE, y_title="", log_x=True)
    look = {"mode": "text", "textposition": "middle right", "showlegend": False, "hoverinfo": "skip"}
    return figure.add_scatter(x=[LEFT_OF_ONE], y=[0.5], text=[text], textfont={"color": FAINT}, **look)


def _accuracy(frame: pd.DataFrame, chance: float) -> go.Figure:
    figure = _lines(frame, "accuracy (95 % interval)", SPLITS, chance)
    return figure.update_yaxes(range=[-0.04, 1.04])


def _lines(
    frame: pd.DataFrame, y_title: str, styles: Mapping[str, SplitStyle], chance: float | None = None
) -> go.Figure:
    shown = frame.rename(columns={"step": "x"})
    return lines(shown, x_title=X_TITLE, y_title=y_title, log_x=True, chance=chance, styles=styles)


def _bands(frame: pd.DataFrame, name: str) -> go.Figure:
    """The median over neurons in its two bands, and the mean."""
    both = [
        pd.DataFrame({"step": frame["step"], "series": f"median, {title}", "value": frame["q50"]}).assign(
            low=frame[low], high=frame[high]
        )
        for title, low, high in _BANDS
    ]
    mean = pd.DataFrame(
        {"step": frame["step"], "series": "mean", "value": frame["mean"], "low": np.nan, "high": np.nan}
    )
    styles = {f"median, {title}": SplitStyle(f"median, {title}", PALETTE[0], "circle", "solid") for title, *_ in _BANDS}
    styles["mean"] = SplitStyle("mean", PALETTE[1], "diamond", "dash")
    return _lines(pd.concat([*both, mean], ignore_index=True), name, styles)


def _means(name: str, frame: pd.DataFrame) -> dict[str, go.Figure]:
    """Means of a table's measured columns per step (and split or quantity), with 95 % Student intervals over rows."""
    by = next((key for key in ("split", "quantity") if key in frame), "")
    # Whole numbers are names of neurons and frequencies more often than measurements.
    measured = frame.drop(columns=["own_step", "low", "high"], errors="ignore").select_dtypes("floating")
    columns = list(measured.dropna(axis=1, how="all").columns)
    if not columns:
        raise ConfigError(f"{name!r} has no column of measured numbers to draw over steps: use frame({name!r})")
    titles = {key: name if columns == ["value"] else f"{name}: {key}" for key in columns}
    return {titles[key]: _lines(_mean_lines(frame, key, by), "mean (95 % interval)", SPLITS) for key in columns}


def _mean_lines(frame: pd.DataFrame, column: str, by: str) -> pd.DataFrame:
    series = frame[by] if by else pd.Series("mean", index=frame.index)
    grouped = frame.assign(series=series).groupby(["series", "step"], sort=False)[column]
    found = grouped.agg(["mean", "std", "count"]).reset_index()
    freedom = np.maximum(found["count"].to_numpy() - 1, 1)
    half = stdtrit(freedom, 0.975) * found["std"] / np.sqrt(found["count"].clip(lower=1))
    found["low"], found["high"] = found["mean"] - half, found["mean"] + half
    return found.rename(columns={"mean": "value"})
