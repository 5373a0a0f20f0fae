"""Progress over many runs: what is done, what failed, and how long the rest takes."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mechmem.training.progress import NotebookLine, ProgressConsole, in_notebook

SECONDS_BETWEEN_LINES = 60


class RunsProgress:
    """A bar over runs with the time left; without a terminal a line from time to time, by `say`.

    Args:
        name: what is done.
        expected: expected seconds of each run, by digest.
        bar: the bar.
        say: writes a line.
        seconds: least time between two lines.
    """

    def __init__(
        self, name: str, expected: Mapping[str, float], bar: Progress, say: Callable[[str], None], seconds: float
    ):
        self._name, self._expected, self._bar, self._say, self._seconds = name, dict(expected), bar, say, seconds
        self._task = bar.add_task(name, total=sum(self._expected.values()), runs=f"0/{len(expected)}", left="")
        self._start = self._printed = time.perf_counter()
        self._done, self._failed = set[str](), 0

    def add(self, expected: Mapping[str, float]) -> None:
        """Count runs that were not known at the beginning."""
        self._expected.update(expected)
        self._bar.update(self._task, total=sum(self._expected.values()))

    def __call__(self, digest: str, *, failed: bool = False) -> None:
        """Count a run that has ended."""
        self._done.add(digest)
        self._failed += failed
        now, done = time.perf_counter(), sum(self._expected[each] for each in self._done)
        # From how long the runs so far have taken, not from what was expected of them.
        left = (now - self._start) * (sum(self._expected.values()) / done - 1)
        runs = f"{len(self._done)}/{len(self._expected)}"
        told = f"about {duration(left)} left" + (f", {self._failed} failed" if self._failed else "")
        self._bar.update(self._task, completed=done, runs=runs, left=told)
        if now - self._printed > self._seconds:
            self._printed = now
            self._say(f"{self._name}: {runs} runs, {told}")


def duration(seconds: float) -> str:
    """Write a duration, e.g. "40 s", "12 min", "5.2 h" or "3.1 days"."""
    for unit, size in (("days", 86400), ("h", 3600)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextlib.contextmanager
def runs_progress(
    name: str, expected: Mapping[str, float], workers: int, on: str, *, show: bool
) -> Iterator[RunsProgress]:
    """Say how long runs will take, then yield what counts those that have ended.

    Args:
        name: what is done.
        expected: expected seconds of each run, by digest.
        workers: number of processes.
        on: what they run on, in words.
        show: whether to show anything.
    """
    show = show and bool(expected)
    console, notebook = ProgressConsole(), in_notebook()
    say = NotebookLine().write if notebook else functools.partial(console.print, soft_wrap=True)
    if show:
        seconds = max(sum(expected.values()) / workers, max(expected.values()))
        runs = f"{len(expected):,} run{'s' * (len(expected) != 1)}"
        say(f"{name}: {runs} to train or measure, about {duration(seconds)} on {on}")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[runs]} runs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    between = math.inf if not show or console.is_terminal else 0.0 if notebook else SECONDS_BETWEEN_LINES
    with Progress(*columns, console=console, disable=not show or notebook or not console.is_terminal) as bar:
        yield RunsProgress(name, expected, bar, say, between)
