"""Figures of logits: parts of the margin, reconstructions from modes, and contributions of components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.plotting.accuracy import dot_plot
from mechmem.plotting.bars import stacked_bars
from mechmem.plotting.lines import lines
from mechmem.plotting.style import FAINT, INK, SPLIT_STYLES, SplitStyle, interval, layout_of, log_axis, styled

COLORS = {"row and column effects": "#999999", "rule": "#E69F00", "remainder": "#56B4E9"}
"""Colours of the parts, in the order of stacking."""
TITLES = {
    "train_clean": "train, clean<br>true label",
    "train_noisy": "train, noisy<br>given label",
    "train_noisy_true": "train, noisy<br>true label",
    "test": "test<br>true label",
}
_BETWEEN = 190
"""Pixels between margins and accuracies: tick labels, title, and a line for each entry of the legend."""
_FAMILIES = {"diagonal": "modes of the rule, strongest first", "energy_ranked": "any modes, strongest first"}
_NAMED = ("network", "restricted", "excluded")
SPREAD = 0.6
"""Width over which the splits of a component are spread."""


def suppression_figure(frame: pd.DataFrame, outside: Mapping[str, int], chance: float) -> go.Figure:
    """Draw the parts of the margins as stacked bars, and below them the accuracies after removing each part.

    Args:
        frame: columns quantity ("margin", "accuracy"), split, part, value, low, high, n.
        outside: cells of each split that are not on the grid.
        chance: accuracy of a blind guess.
    """
    parts = frame.loc[(frame["quantity"] == "margin") & frame["part"].isin([*COLORS, "total"])].copy()
    parts["bar"] = [_bar(split, n, outside.get(split, 0)) for split, n in zip(parts["split"], parts["n"], strict=True)]
    bars = stacked_bars(parts, COLORS, y_title="mean margin over<br>the strongest rival (logits)")
    accuracy = frame.loc[frame["quantity"] == "accuracy"].rename(columns={"split": "series", "part": "extractor"})
    accuracy["extractor"] = [_removal(part) for part in accuracy["extractor"]]
    dots = dot_plot(accuracy, chance)
    height = 460 + layout_of(dots).height - 120
    spacing = _BETWEEN / (height - 120)
    figure = make_subplots(2, 1, row_heights=[0.42, 0.58], vertical_spacing=spacing)
    for trace in bars.select_traces():
        figure.add_trace(trace, row=1, col=1)
    for trace in dots.update_traces(legend="legend2").select_traces():
        figure.add_trace(trace, row=2, col=1)
    styled(figure, height)
    figure.update_layout(barmode="relative", bargap=0.45)
    figure.update_yaxes(title=layout_of(bars).yaxis.title, zeroline=True, zerolinecolor=INK, zerolinewidth=1, row=1)
    figure.update_xaxes(title_text="split and label", showgrid=False, row=1)
    below = layout_of(dots).yaxis
    rows = {"tickvals": below.tickvals, "ticktext": below.ticktext, "range": below.range}
    figure.update_yaxes(title_text="logits that are read", showgrid=False, **rows, row=2)
    look = layout_of(dots).xaxis
    figure.update_xaxes(title=look.title, range=look.range, tickformat=look.tickformat, dtick=look.dtick, row=2)
    top = layout_of(figure).yaxis2.domain[1]
    figure.update_layout(legend2={"orientation": "h", "x": 0, "xanchor": "left", "y": top, "yanchor": "bottom"})
    return figure


def reconstruction_figure(frame: pd.DataFrame, n_key: int, n_freq: int, chance: float) -> go.Figure:
    """Draw accuracy against modes for both families, and the losses of network, restricted and excluded logits.

    Args:
        frame: columns family, modes, split, accuracy, accuracy_low, accuracy_high, loss, loss_low, loss_high.
        n_key: number of key frequencies, marked on the axis.
        n_freq: number of frequencies.
        chance: accuracy of a blind guess.
    """
    curves = frame.loc[frame["family"].isin(list(_FAMILIES))]
    names = {"modes": "x", "split": "series", "accuracy": "value", "accuracy_low": "low", "accuracy_high": "high"}
    drawn = curves.rename(columns=names).assign(panel=[_FAMILIES[family] for family in curves["family"]])
    above = lines(drawn, x_title="modes kept", y_title="accuracy", chance=chance)
    titles = list(dict.fromkeys(drawn["panel"]))
    figure = make_subplots(
        2,
        2,
        specs=[[{}, {}], [{"colspan": 2}, None]],
        subplot_titles=titles,
        horizontal_spacing=0.08,
        vertical_spacing=0.17,
    )
    for column in (1, 2):
        for trace in above.select_traces(row=1, col=column):
            figure.add_trace(trace, row=1, col=column)
    losses = frame.rename(columns={"family": "logits", "loss": "value", "loss_low": "low", "loss_high": "high"})
    names_below = ["the network", f"restricted to<br>{n_key} of {n_freq} frequencies", "without them<br>(excluded)"]
    add_losses(figure, losses, names_below, SPLIT_STYLES, row=2, col=1)
    figure.update_traces(showlegend=False, row=2, col=1)
    styled(figure, 720)
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(title_text="accuracy", row=1, col=1)
    figure.update_xaxes(title_text="modes kept", row=1)
    look = {"color": INK, "width": 1, "dash": "dash"}
    figure.add_scatter(x=[n_key] * 2, y=[0, 1], mode="lines", line=look, name="number of key frequencies", row=1, col=1)
    figure.update_layout(legend={"y": 1.06}, margin={"t": 110})
    return figure


def add_losses(
    figure: go.Figure,
    losses: pd.DataFrame,
    names: Sequence[str],
    styles: Mapping[str, SplitStyle],
    *,
    row: int,
    col: int,
) -> None:
    """Add a panel of losses of the network's, the restricted and the excluded logits, one lane per split.

    Args:
        figure: receives the panel.
        losses: columns split, logits ("network", "restricted", "excluded"; others are left out), value, low, high.
        names: names of the three on the axis.
        styles: styles of the splits by name.
        row: row of the panel.
        col: column of the panel.
    """
    present = [name for name in styles if name in set(losses["split"])]
    for lane, split in enumerate(present):
        rows, style = losses.loc[losses["logits"].isin(_NAMED) & (losses["split"] == split)], styles[split]
        shift = (lane - (len(present) - 1) / 2) * 0.13
        figure.add_scatter(
            x=[_NAMED.index(name) + shift for name in rows["logits"]],
            y=rows["value"].to_numpy(float),
            error_y=interval(rows, thickness=1.2, width=3, color=style.color),
            mode="markers",
            name=style.title,
            legendgroup=style.title,
            marker={"symbol": style.symbol, "size": 9, "color": style.color},
            hovertemplate="%{y:.3g} nats<extra>" + style.title + "</extra>",
            row=row,
            col=col,
        )
    figure.update_xaxes(tickvals=[0, 1, 2], ticktext=names, range=[-0.5, 2.5], showgrid=False, row=row, col=col)
    figure.update_yaxes(title_text="cross-entropy (nats)", **log_axis(losses["value"]), row=row, col=col)


def components_figure(
    frame: pd.DataFrame, titles: Mapping[str, str], note: str = "", *, x_title: str = ""
) -> go.Figure:
    """Draw mean contributions of components, in stacked panels, one per quantity.

    Args:
        frame: columns quantity, split, component, value, low, high; "total" is set apart on the right.
        titles: axis title of each quantity, in the order of the panels.
        note: short note on how the sum was taken.
        x_title: title of the x axis, if the components' names do not suffice.
    """
    figure = make_subplots(len(titles), 1, shared_xaxes=True, vertical_spacing=0.06)
    components = list(dict.fromkeys(frame["component"]))
    place = {name: position + (0.5 if name == "total" else 0) for position, name in enumerate(components)}
    present = [name for name in SPLIT_STYLES if name in set(frame["split"])]
    for row, quantity in enumerate(titles, 1):
        for lane, split in enumerate(present):
            rows = frame.loc[(frame["quantity"] == quantity) & (frame["split"] == split)]
            style = SPLIT_STYLES[split]
            shift = SPREAD * ((lane + 0.5) / len(present) - 0.5)
            figure.add_scatter(
                x=[place[name] + shift for name in rows["component"]],
                y=rows["value"].to_numpy(float),
                error_y=interval(rows, thickness=1.2, width=2, color=style.color),
                customdata=rows["component"],
                mode="markers",
                name=style.title,
                legendgroup=split,
                showlegend=row == 1,
                marker={"symbol": style.symbol, "size": 8, "color": style.color},
                hovertemplate="%{customdata}: %{y:.3f}<extra>" + style.title + "</extra>",
                row=row,
                col=1,
            )
    styled(figure, 160 + 230 * len(titles))
    for row, title in enumerate(titles.values(), 1):
        figure.update_yaxes(title_text=f"{title} (logits)", zeroline=True, zerolinecolor=INK, row=row, col=1)
    ends = [-0.6, max(place.values()) + 0.6]
    figure.update_xaxes(title_text=x_title, row=len(titles))
    figure.update_xaxes(tickvals=list(place.values()), ticktext=components, tickangle=-35, showgrid=False, range=ends)
    if "total" in place:
        apart = place["total"] - 0.75
        line = {"color": FAINT, "width": 1, "dash": "dot"}
        for row in range(1, len(titles) + 1):
            figure.add_vline(x=apart, line=line, row=row, col=1)  # pyright: ignore[reportArgumentType]
    text = {"text": note, "font": {"size": 12, "color": FAINT}, "showarrow": False}
    figure.add_annotation(x=1, xanchor="right", xref="paper", y=1, yanchor="bottom", yref="paper", **text)
    return figure.update_layout(margin={"t": 84}, legend={"y": 1.0 + 18 / (230 * len(titles))})


def _bar(split: str, n: int, n_outside: int) -> str:
    outside = f"<br>({n_outside:,} outside the group)" if n_outside else ""
    return f"{TITLES[split]}<br>n = {n:,}{outside}"


def _removal(part: str) -> str:
    if part == "total":
        return "full logits"
    return part.replace("effects, fitted on", "effects,<br>fitted on").replace("without row and", "without row and<br>")
