"""Tables of the page on scale, from `scaling.csv`, which `tests/support/scaling.py` wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

LAST = 3
"""The exponents are those of so many last sizes: below them, what does not grow takes its share."""
ORDERS = {
    "step, by width": (1, 1),
    "step, by p": (3, 1),
    "step, by examples of a batch": (1, 0),
    "step, by hidden layers": (1, 1),
    "evaluation, by p": (3, 3),
    "audit without twins, by p": (3, 3),
    "kernel ridge, by p": (3, 3),
    "rule discovery, by width": (1, 1),
    "bytes of a run, by width": (1, 1),
}
"""The powers in which time and memory grow in the end: of p³, since that is the number of logits of all pairs."""
NOTHING = 5.0
"""Megabytes below which no exponent of memory is given: a process's memory varies by as much."""
DAY, HOUR, MINUTE = 86400.0, 3600.0, 60.0
RUNS = "bytes of a run, by width"
BEYOND = {
    "one step on 10⁶ examples at once": ("step, by examples of a batch", 10**6, 1),
    "one step on four fifths of the pairs mod 1009": ("step, by p", 1009, 1),
    "one evaluation of all pairs mod 1009": ("evaluation, by p", 1009, 1),
    "an audit at p = 509, without twins": ("audit without twins, by p", 509, 1),
    "an audit at p = 1009, without twins": ("audit without twins, by p", 1009, 1),
    "kernel ridge at p = 1009": ("kernel ridge, by p", 1009, 1),
    "`discover_rule` on 16,384 neurons": ("rule discovery, by width", 16384, 1),
    "10⁴ networks mod 59, 2000 steps each": ("step, by p", 59, 10**4 * 2000),
    "10⁴ such runs on disk": (RUNS, 512, 10**4),
}
"""What is worked out beyond the sizes that were measured: series, size, and how often."""


def growth_table() -> str:
    """Return a Markdown table of what was measured at the greatest size, and of the exponents there."""
    heads = ["what", "sizes", "time at the last", "exponent", "memory at the last", "exponent"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, rows in _series():
        sizes = f"{rows.x.iloc[0]:,} – {rows.x.iloc[-1]:,}"
        time = ["·", "·"] if not rows.seconds.any() else [_time(rows.seconds.iloc[-1]), _exponent(rows.x, rows.seconds)]
        large = rows.megabytes.iloc[-LAST:].min() > NOTHING
        memory = [_bytes(rows.megabytes.iloc[-1]), _exponent(rows.x, rows.megabytes) if large else "·"]
        lines.append(f"| {' | '.join([name, sizes, *time, *memory])} |")
    return "\n".join(lines)


def beyond_table() -> str:
    """Return a Markdown table of what follows for sizes that were not measured."""
    lines = ["| what | time of one core | bytes |", "|---|---|---|"]
    series = dict(_series())
    for what, (name, x, times) in BEYOND.items():
        rows = series[name]
        kept = times if name == RUNS else 1  # memory is given back after each
        of_time, of_memory = ORDERS[name]
        time = _time(times * _at(rows.x, rows.seconds, x, of_time)) if rows.seconds.any() else "·"
        lines.append(f"| {what} | {time} | {_bytes(kept * _at(rows.x, rows.megabytes, x, of_memory))} |")
    return "\n".join(lines)


def _series() -> list[tuple[str, pd.DataFrame]]:
    table = pd.read_csv(Path(__file__).with_name("scaling.csv"))
    return [(str(name), rows) for name, rows in table.groupby("series", sort=False)]


def _slope(x: pd.Series, y: pd.Series) -> float:
    return float(np.polyfit(np.log(x.iloc[-LAST:]), np.log(y.iloc[-LAST:]), 1)[0])


def _at(x: pd.Series, y: pd.Series, place: float, order: int) -> float:
    """Return what was measured at a size, or the last figure and the growth between the last two, in this power."""
    if place in set(x):
        return float(y[x == place].iloc[0])
    if not order:
        return float(y.iloc[-1])
    before, last = (x.iloc[-2:] ** order).tolist()
    return float(y.iloc[-1] + (y.iloc[-1] - y.iloc[-2]) / (last - before) * (place**order - last))


def _exponent(x: pd.Series, y: pd.Series) -> str:
    return f"{_slope(x, y):.1f}".replace("-", "−")


def _time(seconds: float) -> str:
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.2g}\u00a0{name}" if seconds < 100 * unit else f"{seconds / unit:,.0f}\u00a0{name}"
    return f"{1000 * seconds:.2g}\u00a0ms" if seconds < 0.1 else f"{1000 * seconds:.0f}\u00a0ms"


def _bytes(megabytes: float) -> str:
    return f"{megabytes:.0f}\u00a0MB" if megabytes < 1000 else f"{megabytes / 1000:.{megabytes < 10_000:d}f}\u00a0GB"
