"""Tables of the page on label errors, from `label_errors.csv` and `attributions.csv`.

`tests/support/label_error_scores.py` and `tests/support/attribution_scores.py` measured them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

CSV = Path(__file__).with_name("label_errors.csv")
FIGURE = "auroc"
BETTER, WORSE = "▲", "▼"


def label_errors_table(data: str, kind: str) -> str:
    """Return a Markdown table of the area under the ROC curve, in percent, of every score at every share of noise.

    Args:
        data: "digits" or "mnist5k".
        kind: "uniform" or "class".
    """
    table = pd.read_csv(CSV)
    chosen = table[(table.data == data) & (table.kind == kind) & (table.figure == FIGURE)]
    noises = sorted(chosen.noise.unique())
    names = ["loss", *sorted(set(chosen.score) - {"loss"})]
    lines = [f"| score | {' | '.join(f'{noise:.0%} wrong' for noise in noises)} |", "|---" * (len(noises) + 1) + "|"]
    for name in names:
        rows = {row["noise"]: row for row in chosen[chosen.score == name].to_dict("records")}
        lines.append(f"| `{name}` | {' | '.join(_cell(rows.get(noise)) for noise in noises)} |")
    return "\n".join(lines)


def fitted_table() -> str:
    """Return a Markdown table of what the networks fit: correct labels, wrong labels, and the test set."""
    table = pd.read_csv(CSV)
    plain = table[table.score == "loss"].drop_duplicates(["data", "kind", "noise"])
    lines = ["| data | wrong labels | correct labels fitted | wrong labels fitted | test |", "|---|---|---|---|---|"]
    for row in plain.sort_values(["data", "kind", "noise"]).to_dict("records"):
        shares = [f"{100 * row[name]:.1f}\u00a0%" for name in ("train_clean", "train_noisy", "test")]
        lines.append(f"| {row['data']} | {row['noise']:.0%}, {row['kind']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def attributions_table() -> str:
    """Return a Markdown table of the quality of every method of influence, from `attributions.csv`."""
    table = pd.read_csv(CSV.with_name("attributions.csv"))
    table["column"] = table["figure"] + table["removed"].where(table["figure"] == "flipped", "").astype(str)
    heads = {"lds": "datamodeling score", "leave_one_out": "leaving one out"}
    columns = list(dict.fromkeys(table["column"]))
    shown = [heads.get(name, f"flipped without {name.removeprefix('flipped')}") for name in columns]
    lines = [f"| method | {' | '.join(shown)} |", "|---" * (len(columns) + 1) + "|"]
    for method, rows in table.groupby("method", sort=False):
        cells = {row["column"]: row for row in rows.to_dict("records")}
        lines.append(f"| `{method}` | {' | '.join(_interval(cells[name]) for name in columns)} |")
    return "\n".join(lines)


def _interval(row: dict) -> str:
    return f"{row['value']:.2f} ({row['low']:.2f} – {row['high']:.2f})".replace("-", "−")


def _cell(row: dict | None) -> str:
    if row is None:
        return "·"
    mark = f"\u00a0{BETTER}" if row["more_low"] > 0 else f"\u00a0{WORSE}" if row["more_high"] < 0 else ""
    return f"{100 * row['value']:.1f} ({100 * row['low']:.1f} – {100 * row['high']:.1f}){mark}"
