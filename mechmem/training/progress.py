"""Progress of training: a bar on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from mechmem.tasks.config import SPLITS

SHORT = {"train_clean": "clean", "train_noisy": "noisy", "train_noisy_true": "noisy→true", "test": "test"}


class ProgressConsole(Console):
    """Standard error, for progress; work goes on where it cannot be written (a closed terminal, a full disk)."""

    def __init__(self):
        # Not as Jupyter, where every line would be a separate output. Titles are no markup.
        super().__init__(stderr=True, force_jupyter=False, highlight=False, markup=False)

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


class Bar:
    """A progress bar with the rate and the four accuracies."""

    def __init__(self, progress: Progress, title: str, start: int, total: int):
        self._progress = progress
        self._clock, self._start = time.perf_counter(), start
        self._task = progress.add_task(title, total=total, completed=start, rate="", split="")

    def step(self, step: int, row: dict[str, Any] | None) -> None:
        """Move the bar, and show new accuracies if there are any."""
        rate = (step - self._start) / max(time.perf_counter() - self._clock, 1e-9)
        fields: dict[str, Any] = {"rate": f"{rate:.0f} steps/s"}
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
        rate = (step - self._start) / max(time.perf_counter() - self._clock, 1e-9)
        line = f"{self._title}: step {step}/{self._total}, {rate:.0f} steps/s, {accuracies_line(row)}"
        self._console.print(line, highlight=False, soft_wrap=True)
        self._next = step + max(self._total // 10, 1)


@contextlib.contextmanager
def reporter(title: str, start: int, total: int, *, show: bool) -> Iterator[Reporter]:
    """Yield the reporter that suits standard error; the bar is removed when the block ends or fails."""
    console = ProgressConsole()
    if not show:
        yield Silent()
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
