"""Reproduction of a paper: parallel, resumable training of its runs, and a verdict on each claim."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import platform
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mechmem.core import files
from mechmem.core.arguments import checked
from mechmem.core.config import check_choice, check_whole
from mechmem.core.paths import check_path, check_place
from mechmem.core.processes import interruptible
from mechmem.errors import RunDirectoryError, TrainingFailedError, unknown_name
from mechmem.models.hooks.running import resolve_device
from mechmem.pages.report import check_output
from mechmem.recipes.claims import SCALES, Claim, Recipe, Scale, Trial
from mechmem.recipes.conditions import LOOKS, looks
from mechmem.recipes.ledger import Entry, Ledger, entry_of, measured, write_page
from mechmem.recipes.trials import OfClaim, measurements, recipe
from mechmem.sweeps.cost import expected_seconds
from mechmem.sweeps.engine import Engine
from mechmem.sweeps.engine import engine as engine_of
from mechmem.sweeps.jobs import Job, Place
from mechmem.sweeps.progress import runs_progress
from mechmem.sweeps.running import finish

LEDGERS = ("ledger.json", "ledger.html", "ledger.safetensors")
OURS = ("reproduction.json", "runs", "measurements", "failures", "claims", "slurm", *LEDGERS)
FORMAT = 1


@checked
def reproduce(
    name: str,
    *,
    scale: Scale = "small",
    out: str | Path | None = None,
    claims: Sequence[str] = (),
    engine: str = "local",
    workers: int | None = None,
    settings: Mapping[str, Any] | None = None,
    most_seeds: int = LOOKS[-1],
    device: str = "cpu",
    progress: bool = True,
    tell: Callable[[Entry], None] = lambda entry: None,
) -> Ledger:
    """Check a paper's claims, or resume an interrupted call.

    Runs train in parallel, one thread each; they are kept in `out/runs/`, and a later call re-opens them. Where an
    interval over the seeds includes the bound of a condition, seeds are added, up to `most_seeds`, and the claim is
    looked at again; all looks together decide wrongly about a mean that is equal to its bound in at most 5 % of cases.
    Calls with other values of `most_seeds` may follow each other. `out` also gets `ledger.html` with the figures,
    `ledger.json`, and `ledger.safetensors` for `Ledger.load`.

        ledger = mm.reproduce("kobayashi_2020", scale="small", out="reproductions/kobayashi")
        ledger.to_frame()

    Args:
        name: the recipe, e.g. "doshi_2024".
        scale: "smoke" runs every claim's code in under a minute and judges nothing; "small" gives verdicts on two cores
            (the time is said at the start); "paper" uses the paper's own settings.
        out: output directory; by default reproductions/<name>-<scale>.
        claims: keys of the claims to check; by default all.
        engine: what the runs are trained on (see `sweep`).
        workers: number of processes, one thread each; by default as many as the engine has.
        settings: settings of the engine.
        most_seeds: largest number of seeds of an arm, 3 to 20; a recipe may start with more than three.
        device: where to train.
        progress: whether to show a bar (plain lines where standard error is not a terminal).
        tell: called with each claim's entry once it is judged.

    Raises:
        UnknownNameError: there is no such recipe or claim.
        ConfigError: the scale, or the number of workers or of seeds is invalid.
        MissingNeedError: the engine is not installed, or its cluster not running.
        RunDirectoryError: `out` holds other files, or another recipe or scale, or another process writes to it.
        TrainingFailedError: a worker process died, or a result could not be written.
        KeyboardInterrupt: interrupted; the state of every run is saved.
        SystemExit: the process was ended by SIGTERM (status 143); likewise.
    """
    check_choice("scale", scale, SCALES)
    check_whole("number of seeds", most_seeds, LOOKS[0], LOOKS[-1])
    resolve_device(device)
    if out is not None:
        check_path(out)
    paper = recipe(name)
    chosen = _chosen(paper, claims)
    folder = Path(out) if out is not None else Path("reproductions") / f"{name}-{scale}"
    check_place(folder)
    check_output(folder, OURS)
    runner = engine_of(engine, workers, folder, settings or {})
    runner.workers  # noqa: B018 - says whether a number is needed
    try:
        with interruptible(), files.alone(folder):
            return _reproduced(paper, scale, chosen, folder, runner, device, most_seeds, tell, progress=progress)
    except OSError as error:
        raise TrainingFailedError(f"could not write to {folder}: {error}") from error


def _reproduced(
    paper: Recipe,
    scale: Scale,
    chosen: Sequence[Claim],
    folder: Path,
    runner: Engine,
    device: str,
    most: int,
    tell: Callable[[Entry], None],
    *,
    progress: bool,
) -> Ledger:
    """Train and measure what is missing in a directory, judge the claims, and write the ledger."""
    spent = _open(folder, paper, scale)
    place = Place(folder, device, files.identity(folder), since=time.time())
    start = time.perf_counter()
    standings = [_Standing(claim, scale, most) for claim in chosen]
    failures: dict[str, str] = {}

    def decide(awaited: list[_Standing], pending: Collection[str]) -> None:
        """Judge every awaited claim whose runs are all done; it is then no longer awaited."""
        for standing in list(awaited):
            if not any(trial.config.digest in pending for trial in standing.trials):
                awaited.remove(standing)
                standing.decide(folder, failures)
                if standing.entry is not None:
                    tell(standing.entry)

    try:
        with contextlib.ExitStack() as shown:
            report = None
            while open_ := [standing for standing in standings if standing.entry is None]:
                jobs = {job.digest: job for job in _jobs(paper, open_, place) if job.digest not in failures}
                expected = expected_seconds({digest: job.config for digest, job in jobs.items()})
                if report is None:
                    name = f"{paper.name} at scale {scale}"
                    settings = (name, expected, runner.workers, runner.in_words())
                    report = shown.enter_context(runs_progress(*settings, show=progress))
                else:
                    report.add(expected)
                # A claim that needs more seeds waits for the next round, although runs of others are left in this one.
                awaited, pending = list(open_), set(jobs)
                decide(awaited, pending)
                # Near the end, long runs go first, so that none of them runs alone while other processes idle.
                few = len(jobs) <= 2 * runner.workers
                order = sorted(jobs.values(), key=lambda job: -expected[job.digest] * few)
                with contextlib.closing(finish(order, place, runner)) as done:
                    for outcome in done:
                        if outcome.state == "failed":
                            failures[outcome.digest] = f"run {outcome.digest} failed: {outcome.reason}"
                        pending.discard(outcome.digest)
                        report(outcome.digest, failed=outcome.state == "failed")
                        decide(awaited, pending)
    finally:
        spent += time.perf_counter() - start
        files.check_in_place(folder, place.identity or (0, 0), "while it was written")
        files.write_json(folder / "reproduction.json", _header(paper, scale, spent))
    versions = {package: importlib.metadata.version(package) for package in ("mechmem", "torch", "transformer_lens")}
    versions["python"] = platform.python_version()
    files.check_in_place(folder, place.identity or (0, 0), "before the ledger was written")
    ordered = tuple(standing.entry for standing in standings if standing.entry is not None)
    ledger = Ledger(paper.name, paper.title, paper.source, scale, paper.caveats, ordered, spent, versions)
    ledger.save(folder / "ledger.safetensors")
    files.write_json(folder / "ledger.json", ledger.to_json())
    write_page(ledger, paper, measured(ledger, paper, folder), folder / "ledger.html")
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


class _Standing:
    """How far a claim has come: its entry once it is closed, and the seeds that it waits for until then."""

    def __init__(self, claim: Claim, scale: Scale, most: int) -> None:
        self.claim = claim
        self._scale: Scale = scale
        self.entry: Entry | None = None
        self._looks = looks(claim.base(scale), most) if scale != "smoke" else [claim.base(scale)]

    @property
    def trials(self) -> list[Trial]:
        """The runs of the next look."""
        return self.claim.runs(self._scale, self._looks[0])

    def decide(self, folder: Path, failures: Mapping[str, str]) -> None:
        """Judge the claim by the runs of this look, which are done; close it, or wait for more seeds."""
        trials = self.trials
        place, measurement = Place(folder), OfClaim("", self.claim.key)
        missing = [t.config.digest for t in trials if not place.measured(measurement, t.config.digest).exists()]
        failed = next((failures[digest] for digest in missing if digest in failures), "")
        table = None if self.claim.pending or failed else measurements(self.claim, trials, folder)
        entry = entry_of(self.claim, self._scale, trials, table, failed)
        if self.claim.may_be_decided(entry.verdict, entry.findings) and len(self._looks) > 1:
            del self._looks[0]
        else:
            self.entry = entry


def _jobs(paper: Recipe, open_: Sequence[_Standing], place: Place) -> list[Job]:
    """Return the runs whose measurements are missing for the next look at these claims, in the order of the claims."""
    jobs: dict[str, Job] = {}
    for standing in open_:
        measurement = OfClaim(paper.name, standing.claim.key)
        for trial in standing.trials:
            before = jobs.get(trial.config.digest, Job(trial.config, ()))
            if measurement not in before.measurements:
                jobs[trial.config.digest] = Job(trial.config, (*before.measurements, measurement))
    return [job for job in jobs.values() if not place.done(job)]
