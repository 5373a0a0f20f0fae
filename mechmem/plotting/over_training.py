"""Panels of lines over training, one per measured quantity."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechmem.plotting.lines import PALETTE, lines, means
from mechmem.plotting.style import FAINT, LEFT_OF_ONE, SPLIT_STYLES, WITH_ALL_TRAIN, SplitStyle

X_TITLE = "training step (log scale)"
STRUCTURE_STYLES = {
    "S": SplitStyle("S", PALETTE[0], "circle", "solid"),
    "kappa": SplitStyle("κ", PALETTE[1], "diamond", "dash"),
    "heldout_vote": SplitStyle("held-out vote", PALETTE[2], "square", "dot"),
}
UNITS = {"neuron": "neurons", "id": "examples"}
"""Columns of interchangeable rows, whose mean is meaningful, and the name of these rows."""
PANELS = ("quantity", "figure")
"""Columns whose entries have different units, and therefore separate panels."""
MANY = 12
"""Largest number of lines in a readable panel."""
_BANDS = (("5 – 95 %", "q05", "q95"), ("25 – 75 %", "q25", "q75"))


def drawn(measured: Mapping[str, tuple[str, pd.DataFrame]], chance: float) -> dict[str, go.Figure]:
    """Return the panels by title.

    Args:
        measured: kind ("extractor", "structure", "rule", "score", "example_score", "analysis") and table of each, by
            name.
        chance: accuracy of a blind guess.
    """
    panels: dict[str, go.Figure] = {}
    extractors = {name: frame for name, (kind, frame) in measured.items() if kind == "extractor" and "value" in frame}
    if len(extractors) > 1:
        tests = [frame.loc[frame["split"] == "test"].assign(series=name) for name, frame in extractors.items()]
        panels["test accuracy"] = _accuracy(pd.concat(tests, ignore_index=True), chance)
    for name, (kind, frame) in measured.items():
        if set(frame.columns) == {"step", "reason"}:
            panels[name] = _nothing(f"not measured: {frame['reason'].iloc[-1]}", frame)
        elif kind == "extractor":
            panels[name] = _refused(frame) or _accuracy(frame.assign(series=frame["split"]), chance)
        elif kind == "structure":
            figures = frame.loc[frame["quantity"].isin(list(STRUCTURE_STYLES))]
            shown = figures.assign(series=figures["quantity"])
            panels["held-out structure"] = _refused(shown) or _lines(shown, "value (95 % interval)", STRUCTURE_STYLES)
        elif kind == "example_score":
            panels[f"{name} of training examples"] = _lines(
                frame.assign(series=frame["split"], value=frame["q50"], low=frame["q25"], high=frame["q75"]),
                "median (band: middle half<br>of the examples)",
                SPLIT_STYLES,
            )
        elif kind == "score":
            panels[f"{name}, distribution"] = _bands(frame, name)
        else:
            panels |= _table(name, frame)
    return panels


def _refused(frame: pd.DataFrame) -> go.Figure | None:
    """Return a panel with the reason if no step has a number, or None."""
    if np.isfinite(frame["value"].to_numpy(float)).any():
        return None
    return _nothing(f"not measured: {frame['reason'].iloc[-1]}", frame)


def _nothing(why: str, frame: pd.DataFrame) -> go.Figure:
    """Return an empty panel over the table's steps with the reason."""
    figure = _lines(pd.DataFrame({"step": frame["step"], "series": "", "value": np.nan}), "", {})
    text = "<br>".join(textwrap.wrap(why, 90))
    look = {"mode": "text", "textposition": "middle right", "showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(x=[LEFT_OF_ONE], y=[0.5], text=[text], textfont={"color": FAINT}, **look)
    return figure.update_yaxes(range=[0, 1], showticklabels=False, showgrid=False)


def _accuracy(frame: pd.DataFrame, chance: float) -> go.Figure:
    figure = _lines(frame, "accuracy (95 % interval)", SPLIT_STYLES, chance)
    return figure.update_yaxes(range=[-0.04, 1.04])


def _lines(
    frame: pd.DataFrame, y_title: str, styles: Mapping[str, SplitStyle], chance: float | None = None
) -> go.Figure:
    shown = frame.rename(columns={"step": "x"})
    return lines(shown, x_title=X_TITLE, y_title=y_title, log_x=True, chance=chance, styles=styles)


def _bands(frame: pd.DataFrame, name: str) -> go.Figure:
    """Return a panel with the median over neurons in two bands, and the mean."""
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


def _table(name: str, frame: pd.DataFrame) -> dict[str, go.Figure]:
    """Return one panel per measured column and quantity, with one line per combination of names."""
    # Integers are more often numbers of neurons or frequencies than measurements.
    measured = frame.drop(columns=["own_step", "low", "high"], errors="ignore").select_dtypes("floating")
    columns = list(measured.dropna(axis=1, how="all").columns)
    ask = f"use frame({name!r})"
    if not columns:
        return {name: _nothing(f"no column of measurements to draw over steps: {ask}", frame)}
    unit = next((UNITS[key] for key in UNITS if key in frame), "")
    keys = _names(frame)
    if not unit and frame.duplicated(["step", *keys]).any():
        return {name: _nothing(f"several rows per step that differ only in numbers: {ask}", frame)}
    panels: dict[str, go.Figure] = {}
    by = next((key for key in PANELS if key in keys), "")
    for quantity, rows in frame.groupby(by, sort=False) if by else [("", frame)]:
        series, note = _series(rows, [key for key in keys if key != by])
        parts = [str(quantity)] if by else []
        if series.nunique() > MANY:
            many = f"{series.nunique()} lines are too many for one panel: {ask}"
            panels[_title(name, parts) + note] = _nothing(many, rows)
            continue
        shown = rows.loc[series.index].assign(series=series)
        for column in columns:
            title = _title(name, parts if columns == ["value"] else [*parts, column]) + note
            drawable = _means(shown, column, unit) if unit else _measured(shown, column)
            panels[title] = _lines(*drawable, WITH_ALL_TRAIN)
    return panels


def _title(name: str, parts: Sequence[str]) -> str:
    return f"{name}: {', '.join(parts)}" if parts else name


def _names(frame: pd.DataFrame) -> list[str]:
    """Return the first non-numeric columns that, with the step, identify a row."""
    found: list[str] = []
    words = frame.drop(columns=["step", "reason", "note"], errors="ignore").select_dtypes(exclude="number")
    for key in words.columns:
        if frame.duplicated(["step", *found]).any():
            found.append(key)
    return found


def _series(rows: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.Series, str]:
    """Return the name of each row's line, and an addition to the title if rows are omitted.

    If all splits together make too many lines, only the test split is drawn.
    """
    # A step that could not be measured has a reason but no names.
    rows, note = rows.dropna(subset=list(keys)), ""
    if "split" in keys and "test" in set(rows["split"]) and len(rows[list(keys)].drop_duplicates()) > MANY:
        rows, note = rows.loc[rows["split"] == "test"], ", on test"
    telling = [key for key in keys if len(set(rows[key])) > 1]
    if not telling:
        return pd.Series("value", index=rows.index), note
    words = [[_word(key, value, alone=len(telling) == 1) for value in rows[key]] for key in telling]
    return pd.Series([", ".join(each) for each in zip(*words, strict=True)], index=rows.index), note


def _word(key: str, value: object, *, alone: bool) -> str:
    if isinstance(value, bool | np.bool_):
        return key if value else f"not {key}"
    # A line named by a split alone keeps the split's key, which selects its style.
    return SPLIT_STYLES[str(value)].title if key == "split" and not alone and value in SPLIT_STYLES else str(value)


def _measured(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, str]:
    """Return the lines of a column and their axis title; an interval belongs to the column before it."""
    columns = list(frame.columns)
    certain = "low" in columns and columns[columns.index("low") - 1] == column
    ends = ["low", "high"] if certain else []
    found = pd.DataFrame({key: frame[key] for key in ("step", "series", *ends)} | {"value": frame[column]})
    title = column.replace("_", " ")
    return found, f"{title} (95 % interval)" if certain else title


def _means(frame: pd.DataFrame, column: str, unit: str) -> tuple[pd.DataFrame, str]:
    """Return means over rows, with 95 % Student intervals, and their axis title."""
    found = means(frame.rename(columns={column: "value"}), ["series", "step"])
    return found, f"mean over {unit}<br>(95 % interval)"
