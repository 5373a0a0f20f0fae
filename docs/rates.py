"""Tables of the calibration page, from the rates that `tests/support/verdict_rates.py` wrote."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

VERDICTS = {"rule": "rule", "trace": "trace", "another_rule": "another rule", "labels_only": "labels only"}


def rates_table(kind: str, p: int, fraction: float, noise: float | None = None) -> str:
    """Return a Markdown table of the verdicts, in percent of the draws.

    Args:
        kind: "no rule", "plant", "rule" or "trained".
        p: the modulus.
        fraction: share of the cells in the training set.
        noise: share of wrong labels; None for all, each with a column of its own.
    """
    table = pd.read_csv(Path(__file__).with_name("calibration.csv"))
    chosen = table[(table.kind == kind) & (table.p == p) & (table.train_fraction == fraction)]
    chosen = chosen if noise is None else chosen[chosen.noise == noise]
    by_noise = [] if noise is not None else ["wrong labels"]
    heads = ["logits", *by_noise, "inputs that count", "mean κ", *VERDICTS.values()]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in chosen.to_dict("records"):
        wrong = [f"{100 * row['noise']:.0f} %" for _ in by_noise]
        kappa = f"{row['kappa']:.2f}".replace("-0.00", "0.00").replace("-", "−")
        name = row["logits"].replace("|", "\\|")
        shares = [_percent(row[verdict]) for verdict in VERDICTS]
        lines.append(f"| {' | '.join([name, *wrong, str(row['cells']), kappa, *shares])} |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "·" if share == 0 else "100\u00a0%" if share == 1 else f"{100 * share:.1f}\u00a0%"
