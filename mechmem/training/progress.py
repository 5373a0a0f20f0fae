"""Progress of training: a bar on a terminal, one line in a notebook, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from mechmem.tasks.config import SPLITS

T = TypeVar("T")

SECONDS_BETWEEN_UPDATES = 0.2
"""Least time between two writings of a notebook's line."""

SHORT = {"train_clean": "clean", "train_noisy": "noisy", "train_noisy_true": "noisy→true", "test": "test"}


class SizedConsole(Console):
    """A console that looks up its width where COLUMNS is 0, which some environments set if they do not know it."""

    def __init__(self, **settings: Any):
        columns = os.environ.get("COLUMNS", "")
        unknown = bool(columns) and not columns.strip("0")
        super().__init__(highlight=False, width=shutil.get_terminal_size().columns if unknown else None, **settings)


class ProgressConsole(SizedConsole):
    """Standard error, for progress; work goes on where it cannot be written (a closed terminal, a full disk)."""

    def __init__(self):
        # Not as Jupyter, where every line would be a separate output. Titles are no markup.
        super().__init__(stderr=True, force_jupyter=False, markup=False)

    def _write_buffer(self) -> None:
        try:
            super()._write_buffer()
        except OSError:
            self.quiet = True
            del self._buffer[:]


class Reporter(Protocol):
    """Interface for reporting every step of one training run."""

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Report that `step` updates are done; `row` is the history's new row, or None."""
        ...


class Silent:
    """Reports nothing."""

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Report nothing."""


def accuracies_line(row: dict[str, Any]) -> str:
    """Format the four accuracies of a history row as one line, in percent."""
    parts = [f"{SHORT[split]} {'–' if row[split] is None else f'{100 * row[split]:.0f}%'}" for split in SPLITS]
    return " · ".join(parts)


def rate_line(steps: int, since: float) -> str:
    """Format the rate of a number of steps done since a reading of `time.perf_counter`."""
    rate = steps / max(time.perf_counter() - since, 1e-9)
    return f"{rate:.0f} steps/s" if rate >= 1 else f"{60 * rate:.1f} steps/min"


def in_notebook() -> bool:
    """Return whether the code runs in a notebook, where a line that is written stays."""
    return Console().is_jupyter


class NotebookLine:
    """One line in the output of a notebook's cell, written anew each time; the last one stays."""

    def __init__(self) -> None:
        self._shown: Any = None

    def write(self, text: str) -> None:
        """Show a line in the place of the one before."""
        from IPython.display import display

        if self._shown is None:
            self._shown = display({"text/plain": text}, raw=True, display_id=True)
        else:
            self._shown.update({"text/plain": text}, raw=True)


class Bar:
    """A progress bar with the rate and the four accuracies."""

    def __init__(self, progress: Progress, title: str, start: int, total: int):
        self._progress = progress
        self._clock, self._start = time.perf_counter(), start
        self._task = progress.add_task(title, total=total, completed=start, rate="", split="")

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Move the bar, and show new accuracies if there are any."""
        fields: dict[str, Any] = {"rate": rate_line(step - self._start, self._clock)}
        if row is not None:
            fields["split"] = accuracies_line(row)
        self._progress.update(self._task, completed=step, **fields)


class Lines:
    """Plain lines, one every tenth of the run, for logs."""

    def __init__(self, console: Console, title: str, start: int, total: int):
        self._console, self._title, self._total = console, title, total
        self._clock, self._start, self._next = time.perf_counter(), start, start

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Print a line if one is due and accuracies are known."""
        if row is None or (step < self._next and step < self._total):
            return
        rate = rate_line(step - self._start, self._clock)
        line = f"{self._title}: step {step}/{self._total}, {rate}, {accuracies_line(row)}"
        self._console.print(line, highlight=False, soft_wrap=True)
        self._next = step + max(self._total // 10, 1)


class Rewritten:
    """A line in a notebook with the step, the rate and the last known accuracies."""

    def __init__(self, title: str, start: int, total: int):
        self._line, self._title, self._total = NotebookLine(), title, total
        self._clock, self._start, self._next = time.perf_counter(), start, 0.0
        self._accuracies = ""

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Write the line anew if the last time is long enough ago, or if nothing is left to do."""
        if row is not None:
            self._accuracies = f", {accuracies_line(row)}"
        if time.perf_counter() >= self._next or step >= self._total:
            rate = rate_line(step - self._start, self._clock)
            self._line.write(f"{self._title}: step {step}/{self._total}, {rate}{self._accuracies}")
            self._next = time.perf_counter() + SECONDS_BETWEEN_UPDATES


@contextlib.contextmanager
def reporter(title: str, start: int, total: int, *, show: bool) -> Iterator[Reporter]:
    """Yield the reporter that suits a notebook or else standard error; a bar stays as it was when the block ended."""
    console = ProgressConsole()
    if not show:
        yield Silent()
    elif in_notebook():
        yield Rewritten(title, start, total)
    elif not console.is_terminal:
        yield Lines(console, title, start, total)
    else:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[split]}", style="cyan"),
        )
        with Progress(*columns, console=console) as progress:
            yield Bar(progress, title, start, total)


def counted(items: Iterable[T], title: str, total: int | None = None, *, show: bool) -> Iterator[T]:
    """Yield items one by one, and report how many of them are done.

    Args:
        items: what is worked on.
        title: what is done with them.
        total: their number, if `items` does not know it.
        show: whether to report.
    """
    if total is None:
        assert isinstance(items, Collection)
        total = len(items)
    with reporter(title, 0, total, show=show) as report:
        for done, item in enumerate(items, 1):
            yield item
            report.step(done, None)
