"""Reproduction of a paper: parallel, resumable training of its runs, and a verdict on each claim."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.paths import check_path, check_place
from mechmem.core.processes import interruptible, run_interruptibly, worker_pool
from mechmem.errors import RunDirectoryError, TrainingFailedError, unknown_name
from mechmem.models.hooks.running import resolve_device
from mechmem.pages.report import check_output
from mechmem.recipes.claims import SCALES, Claim, Recipe, Scale
from mechmem.recipes.ledger import Entry, Ledger, entry_of, write_page
from mechmem.recipes.trials import (
    expected_seconds,
    measured_at,
    measurements,
    recipe,
    step_rate,
    work,
)
from mechmem.training.progress import NotebookLine, ProgressConsole, in_notebook

OURS = ("reproduction.json", "runs", "measurements", "ledger.json", "ledger.html", "ledger.safetensors")
FORMAT = 1
SECONDS_BETWEEN_LINES = 60


@checked
def reproduce(
    name: str,
    *,
    scale: Scale = "small",
    out: str | Path | None = None,
    claims: Sequence[str] = (),
    workers: int = 2,
    device: str = "cpu",
    progress: bool = True,
    tell: Callable[[Entry], None] = lambda entry: None,
) -> Ledger:
    """Check a paper's claims, or resume an interrupted call.

    Runs train in parallel, one thread each; they are kept in `out/runs/`, and a later call re-opens them. `out` also
    gets `ledger.html` with the figures, `ledger.json`, and `ledger.safetensors` for `Ledger.load`.

        ledger = mm.reproduce("kobayashi_2020", scale="small", out="reproductions/kobayashi")
        ledger.to_frame()

    Args:
        name: the recipe, e.g. "doshi_2024".
        scale: "smoke" runs every claim's code in under a minute and judges nothing; "small" gives verdicts on two cores
            in well under an hour; "paper" uses the paper's own settings.
        out: output directory; by default reproductions/<name>-<scale>.
        claims: keys of the claims to check; by default all.
        workers: number of processes.
        device: where to train.
        progress: whether to show a bar (plain lines where standard error is not a terminal).
        tell: called with each claim's entry once it is judged.

    Raises:
        UnknownNameError: there is no such recipe or claim.
        ConfigError: the scale or the number of workers is invalid.
        RunDirectoryError: `out` holds other files, or another recipe or scale, or another process writes to it.
        TrainingFailedError: a worker process died, or a result could not be written.
        KeyboardInterrupt: interrupted; the state of every run is saved.
        SystemExit: the process was ended by SIGTERM (status 143); likewise.
    """
    check_choice("scale", scale, SCALES)
    check_whole("number of workers", workers, 1)
    resolve_device(device)
    if out is not None:
        check_path(out)
    paper = recipe(name)
    chosen = _chosen(paper, claims)
    folder = Path(out) if out is not None else Path("reproductions") / f"{name}-{scale}"
    check_place(folder)
    check_output(folder, OURS)
    try:
        with interruptible(), files.alone(folder):
            return _reproduced(paper, scale, chosen, folder, workers, device, tell, progress=progress)
    except OSError as error:
        raise TrainingFailedError(f"could not write to {folder}: {error}") from error


def _reproduced(
    paper: Recipe,
    scale: Scale,
    chosen: Sequence[Claim],
    folder: Path,
    workers: int,
    device: str,
    tell: Callable[[Entry], None],
    *,
    progress: bool,
) -> Ledger:
    """Train and measure what is missing in a directory, judge the claims, and write the ledger."""
    spent, place = _open(folder, paper, scale), files.identity(folder)
    start = time.perf_counter()
    entries: dict[str, Entry] = {}
    failures: dict[str, str] = {}

    def decide(pending: set[str]) -> None:
        """Judge every claim whose runs are all done."""
        for claim in chosen:
            digests = set() if claim.pending else {trial.config.digest for trial in claim.trials(scale)}
            if claim.key in entries or digests & pending:
                continue
            failed = next((failures[digest] for digest in digests if digest in failures), "")
            table = None if claim.pending or failed else measurements(claim, scale, folder)
            entries[claim.key] = entry_of(claim, paper, scale, table, failed)
            tell(entries[claim.key])

    jobs = _jobs(paper, chosen, scale, folder)
    expected = expected_seconds({digest: paper.trials(scale)[digest] for digest in jobs}, step_rate())
    with _reporter(paper, scale, expected, workers, show=progress) as report:
        decide(set(jobs))
        try:
            # Closed here, so that an error or an interrupt at any point ends the processes.
            with contextlib.closing(_run(jobs, paper, scale, folder, workers, device, expected, place)) as done:
                for digest, failure in done:
                    if failure:
                        failures[digest] = failure
                    del jobs[digest]
                    report(digest)
                    decide(set(jobs))
        finally:
            spent += time.perf_counter() - start
            files.check_in_place(folder, place, "while it was written")
            files.write_json(folder / "reproduction.json", _header(paper, scale, spent))
    versions = {package: importlib.metadata.version(package) for package in ("mechmem", "torch", "transformer_lens")}
    versions["python"] = platform.python_version()
    files.check_in_place(folder, place, "before the ledger was written")
    ordered = tuple(entries[claim.key] for claim in chosen)
    ledger = Ledger(paper.name, paper.title, paper.source, scale, paper.caveats, ordered, spent, versions)
    ledger.save(folder / "ledger.safetensors")
    files.write_json(folder / "ledger.json", ledger.to_json())
    write_page(ledger, paper, folder)
    return ledger


def _chosen(paper: Recipe, keys: Sequence[str]) -> list[Claim]:
    known = [claim.key for claim in paper.claims]
    for key in keys:
        if key not in known:
            raise unknown_name(f"claim of {paper.name!r}", key, known)
    return [claim for claim in paper.claims if not keys or claim.key in keys]


def _header(paper: Recipe, scale: Scale, seconds: float) -> dict[str, Any]:
    return {"format": FORMAT, "recipe": paper.name, "scale": scale, "seconds": seconds}


def _open(folder: Path, paper: Recipe, scale: Scale) -> float:
    """Create the reproduction's directory, or check that it matches; return the seconds already spent on it."""
    for each in folder.glob("measurements/*"):
        files.sweep(each, "*.json")
    path = folder / "reproduction.json"
    if not path.exists():
        files.write_json(path, _header(paper, scale, 0.0))
        return 0.0
    found = files.read_object(path)
    seconds = found.get("seconds")
    seconds = seconds if isinstance(seconds, int | float) else math.nan
    if {**found, "seconds": 0.0} != _header(paper, scale, 0.0) or not math.isfinite(seconds):
        there = f"{found.get('recipe')} at scale {found.get('scale')}"
        raise RunDirectoryError(f"{folder} holds {there}, not {paper.name} at scale {scale}; choose another directory")
    return float(seconds)


def _jobs(paper: Recipe, chosen: Sequence[Claim], scale: Scale, folder: Path) -> dict[str, list[str]]:
    """Return, by run, the claims whose measurement is missing, in the order of the claims."""
    jobs: dict[str, list[str]] = {}
    for claim in chosen:
        for trial in () if claim.pending else claim.trials(scale):
            digest = trial.config.digest
            if not measured_at(folder, claim.key, digest).exists() and claim.key not in jobs.get(digest, []):
                jobs.setdefault(digest, []).append(claim.key)
    return jobs


def _run(
    jobs: dict[str, list[str]],
    paper: Recipe,
    scale: Scale,
    folder: Path,
    workers: int,
    device: str,
    expected: dict[str, float],
    place: tuple[int, int],
) -> Generator[tuple[str, str]]:
    """Yield the digest of each finished run, and the reason if it failed (else "")."""
    if not jobs:
        return
    # Near the end, long runs go first, so that none of them runs alone while other processes idle.
    order = sorted(jobs, key=lambda digest: -expected[digest]) if len(jobs) <= 2 * workers else list(jobs)
    try:
        with worker_pool(min(workers, len(jobs))) as pool:
            given = {digest: (paper.name, scale, digest, jobs[digest], folder, device, place) for digest in order}
            waiting: dict[Future[tuple[str, float]], str] = {
                pool.submit(run_interruptibly, work, *each): digest for digest, each in given.items()
            }
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield waiting.pop(future), future.result()[0]
    except BrokenProcessPool as error:
        raise TrainingFailedError(f"a worker process died (out of memory?): {error}") from error


class _Progress:
    """Progress bar over runs with the time left; without a terminal a line from time to time, by `say`."""

    def __init__(
        self, name: str, expected: dict[str, float], bar: Progress, say: Callable[[str], None], seconds: float
    ):
        self._name, self._expected, self._bar, self._say, self._seconds = name, expected, bar, say, seconds
        self._total = sum(expected.values())
        self._task = bar.add_task(name, total=self._total, runs=f"0/{len(expected)}", left="")
        self._start = self._printed = time.perf_counter()
        self._done: list[str] = []

    def __call__(self, digest: str) -> None:
        """Count a finished run."""
        self._done.append(digest)
        now, done = time.perf_counter(), sum(self._expected[each] for each in self._done)
        left = f"about {(now - self._start) * (self._total / done - 1) / 60:.0f} min left"
        runs = f"{len(self._done)}/{len(self._expected)}"
        self._bar.update(self._task, completed=done, runs=runs, left=left)
        if now - self._printed > self._seconds:
            self._printed = now
            self._say(f"{self._name}: {runs} runs, {left}")


@contextlib.contextmanager
def _reporter(
    paper: Recipe, scale: Scale, expected: dict[str, float], workers: int, *, show: bool
) -> Iterator[Callable[[str], None]]:
    """Print the expected duration, then yield a callback for finished runs."""
    if not show or not expected:
        yield lambda digest: None
        return
    console, notebook = ProgressConsole(), in_notebook()
    say = NotebookLine().write if notebook else functools.partial(console.print, soft_wrap=True)
    minutes = max(sum(expected.values()) / workers, max(expected.values())) / 60
    runs = f"{len(expected)} run{'s' * (len(expected) != 1)}"
    on = "1 process of one thread" if workers == 1 else f"{workers} processes of one thread each"
    say(f"{paper.name} at scale {scale}: {runs} to train or measure, about {minutes:.0f} min on {on}")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[runs]} runs"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    seconds = 0.0 if notebook else math.inf if console.is_terminal else SECONDS_BETWEEN_LINES
    with Progress(*columns, console=console, disable=notebook or not console.is_terminal) as bar:
        yield _Progress(paper.name, expected, bar, say, seconds)
