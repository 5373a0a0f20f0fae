"""The diagram of where the rule is read told nothing, from `frontier.csv`: python docs/frontier.py

`tests/support/told_nothing_frontier.py` trains and measures the networks. This draws `pictures/frontier.svg`, which
needs Chromium; the page's tables are made from the same file when it is built.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechmem.core.export import picture
from mechmem.plotting.style import styled

HERE = Path(__file__).parent
READ = "test of shared_subspaces+additive_free"
PANELS = {
    "the network itself": "test",
    "told nothing": READ,
    "told the group": "test of frequency+quadratic",
}
STEPS = 3000


def lines() -> pd.DataFrame:
    """Return one line per network, or per group of networks that are read as one."""
    return pd.read_csv(HERE / "frontier.csv")


def plane() -> pd.DataFrame:
    """Return the networks of the diagram: one seed, 3000 steps."""
    table = lines()
    return table[(table.steps == STEPS) & (table.seeds == 1)]


def frontier_table() -> str:
    """Return a Markdown table of what the number of neurons and the length of the training change at ξ = .5."""
    table = lines()
    rows = table[table.noise == 0.5].sort_values(["steps", "seeds", "width"])
    heads = ["neurons", "training steps", "network itself", "told nothing", "wrong labels still read", "Z"]
    written = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows.to_dict("records"):
        neurons = f"{row['width']:,}" if row["seeds"] == 1 else f"{row['seeds']} × {row['width']:,}, pooled"
        shares = [_percent(row[name]) for name in ("test", READ, READ.replace("test of", "train noisy of"))]
        written.append(f"| {neurons} | {row['steps']:,} | {' | '.join(shares)} | {row['Z']:.1f} |")
    return "\n".join(written)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def figure() -> go.Figure:
    """Draw accuracy on held-out pairs over noise and width, a panel each for network and extractors."""
    table = plane()
    found = make_subplots(1, len(PANELS), subplot_titles=list(PANELS), shared_yaxes=True, horizontal_spacing=0.03)
    for column, name in enumerate(PANELS.values(), 1):
        grid = table.pivot(index="width", columns="noise", values=name)
        found.add_heatmap(
            z=100 * grid.to_numpy(),
            x=[f"{noise:.0%}" for noise in grid.columns],
            y=[f"{width:,}" for width in grid.index],
            text=[["" if value != value else f"{100 * value:.0f}" for value in row] for row in grid.to_numpy()],
            texttemplate="%{text}",
            textfont={"size": 13},
            colorscale="Cividis",
            zmin=0,
            zmax=100,
            showscale=column == len(PANELS),
            colorbar={"title": {"text": "right, %", "side": "right"}, "thickness": 12, "outlinewidth": 0},
            xgap=2,
            ygap=2,
            row=1,
            col=column,
        )
        found.update_xaxes(title_text="wrong labels", type="category", showgrid=False, row=1, col=column)
        found.update_yaxes(title_text="neurons" if column == 1 else "", type="category", showgrid=False, col=column)
    return styled(found, 330).update_layout(plot_bgcolor="#ffffff", margin={"t": 50, "r": 20})


if __name__ == "__main__":
    (HERE / "pictures" / "frontier.svg").write_bytes(picture(figure(), "svg", width=720))
