"""What the commands of `measurements` do: load, measure, show the table, write the file."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mechmem.cli import measurements as options
from mechmem.core.config import check_different
from mechmem.core.results import Result
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError

Write = Callable[[str], None]


def run_measurement(command: Any, write: Write) -> None:
    """Run one of the commands.

    Args:
        command: the parsed command.
        write: prints a line of results.

    Raises:
        ConfigError: an option is not allowed.
        MissingNeedError: the network lacks what the measurement needs, or a picture needs Chromium.
        RunDirectoryError: the run cannot be read, or the file cannot be written.
    """
    result = MEASURES[type(command)](command)
    # What was measured is shown even if the file cannot be written.
    if command.json:
        write(json.dumps(_as_json(result)))
    elif not command.quiet:
        from mechmem.cli.terminal import console, discovery, result_table

        shown = discovery if isinstance(command, options.Discover) else result_table
        console().print(shown(result))  # pyright: ignore[reportArgumentType]
    if command.out is not None:
        result.export(command.out)
    for written in (command.out, getattr(command, "review", None)):
        if written is not None and not command.json and not command.quiet:
            write(f"Written: {written}")


def write_page(command: options.Explore, write: Write) -> None:
    """Write the page to explore a run, and say where it is and how large.

    Args:
        command: the parsed command.
        write: prints a line of results.

    Raises:
        MissingNeedError: the run's inputs are not pairs.
        RunDirectoryError: the run cannot be read, or the page cannot be written.
    """
    from mechmem.pages.explore import explore
    from mechmem.training.load import load

    subject = load(command.run, step=command.step, device=command.device)
    explore(subject, command.out, progress=not command.quiet)
    size = command.out.stat().st_size
    if command.json:
        write(json.dumps({"page": str(command.out), "bytes": size}))
    elif not command.quiet:
        write(f"Page: {command.out} ({size / 1e6:.1f} MB)")


def _as_json(result: Any) -> dict[str, Any]:
    """Return a result's own JSON, or its table row by row and its sentence."""
    if hasattr(result, "to_json"):
        return result.to_json()
    rows = json.loads(str(result.to_frame().to_json(orient="records")))
    return {"sentence": getattr(result, "sentence", ""), "rows": rows}


def _subject(command: options.OfState) -> Subject:
    from mechmem.training.load import load

    return load(command.run, step=command.step, device=command.device)


def _discover(command: options.Discover) -> Result:
    from mechmem.analyses.discover_rule import discover_rule

    return discover_rule(_subject(command), command.extractor)


def _analyse(command: options.Analyse) -> Result:
    from mechmem.analyses.analyse import analyse
    from mechmem.core.plugins import named

    analysis = named("analyses", command.name)  # before the run is read
    if command.step is not None and analysis.wants() == {"run"}:
        raise ConfigError(f"{command.name} reads the whole run: leave out --step")
    return analyse(_subject(command), command.name)


def _ablate(command: options.Ablate) -> Result:
    from mechmem.neurons.ablate import ablate

    names = ("order", "points", "at", "units", "value", "seed")
    settings = {name: getattr(command, name) for name in names}
    return ablate(_subject(command), by=command.by or None, **settings)


def _patch(command: options.Patch) -> Result:
    from mechmem.interventions.patching.patch import patch
    from mechmem.training.load import load

    donor = None if command.donor is None else load(command.donor, device=command.device)
    settings = {name: getattr(command, name) for name in ("units", "direction", "metric", "seed")}
    return patch(_subject(command), donor, at=command.at or None, **settings)


def _neuron(command: options.Neuron) -> Result:
    from mechmem.analyses.neuron_card import neuron

    return neuron(_subject(command), command.neuron, point=command.point)


def _label_issues(command: options.LabelIssues) -> Result:
    from mechmem.examples.label_issues import label_issues
    from mechmem.pages.review import write_review

    subject = _subject(command)
    found = label_issues(subject, command.score, count=command.count, point=command.point)
    if command.review is not None:
        write_review(found, subject.task, command.review)
    return found


def _over_training(command: options.OverTraining) -> Result:
    from mechmem.analyses.dynamics import over_training
    from mechmem.training.load import load

    return over_training(load(command.run, device=command.device), command.what, progress=not command.quiet)


def _compare(command: options.Compare) -> Result:
    from mechmem.scorecard.audit import audit
    from mechmem.scorecard.extractor import extractor
    from mechmem.scorecard.pooling import compare
    from mechmem.training.load import load

    names = [extractor(name).name for name in command.extractors] or None
    apart = _told_apart(command.runs)
    subjects = [
        dataclasses.replace(load(run, device=command.device), name=name)
        for run, name in zip(command.runs, apart, strict=True)
    ]
    return compare([audit(subject, names, progress=not command.quiet) for subject in subjects])


def _told_apart(runs: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that are all different, as names."""
    paths = [run.resolve().parts for run in runs]
    check_different("compare", ["/".join(parts) for parts in paths])
    ends = ([str(Path(*parts[-count:])) for parts in paths] for count in itertools.count(1))
    return next(names for names in ends if len(set(names)) == len(names))


MEASURES: dict[type, Callable[[Any], Result]] = {
    options.Discover: _discover,
    options.Analyse: _analyse,
    options.Ablate: _ablate,
    options.Patch: _patch,
    options.Neuron: _neuron,
    options.LabelIssues: _label_issues,
    options.OverTraining: _over_training,
    options.Compare: _compare,
}
