"""What the benchmarks share: timing two ways in turns, and the table of results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS: int | None = None
"""How often each way is timed, if another number than a benchmark asks for."""

ROWS: list[tuple[str, str, str, str]] = []
"""What was measured: what, plain, ours, ratio and bar."""


def alternately(
    plain: Callable[[], object],
    fast: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Median seconds of two ways, measured in turns so that a slow spell of the machine hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for call in () if ROUNDS == 1 else (plain, fast):
        call()
    for _ in range(ROUNDS or rounds):
        for seconds, call in zip(times, (plain, fast), strict=True):
            start = clock()
            call()
            seconds.append(clock() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def add(what: str, plain: float, fast: float, bar: float, *, speedup: bool) -> None:
    """Note a ratio: plain over fast where more is better, fast over plain where less is."""
    ratio = plain / fast if speedup else fast / plain
    sign = "≥" if speedup else "≤"
    ROWS.append((what, f"{1e3 * plain:.1f} ms", f"{1e3 * fast:.1f} ms", f"{ratio:.2f}× (bar {sign} {bar}×)"))


def note(what: str, found: str, bar: str) -> None:
    """Note a figure that has no plain way to be compared with."""
    ROWS.append((what, "", found, f"bar {bar}"))


def peak_resident_mb(*, reset: bool = False) -> float:
    """Highest resident memory since the last reset (Linux keeps it, and forgets it on request)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
