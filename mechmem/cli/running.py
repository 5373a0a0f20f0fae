"""What the commands do: load what they need, call, print. `main` parses, and turns errors into one line."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mechmem.cli.commands import Audit, CommonOptions, Demo, Examples, List, Reproduce, Train, TrainImages
from mechmem.cli.lines import UnreadError
from mechmem.cli.measurements import (
    Ablate,
    Analyse,
    Compare,
    Discover,
    Explore,
    LabelIssues,
    Neuron,
    OfRun,
    OverTraining,
    Patch,
)
from mechmem.cli.start import nothing_begun
from mechmem.cli.sweep_files import told
from mechmem.cli.sweeps import Sweep, SweepImages, SweepTable
from mechmem.core.config import check_whole
from mechmem.core.export_checks import check_export, check_page
from mechmem.core.paths import check_path, check_place
from mechmem.errors import ConfigError, ScoreError, unknown_name


def _load_libraries() -> None:
    """Load the slow libraries, once the command has been parsed."""
    with nothing_begun():
        import mechmem.cli.demo
        import mechmem.cli.terminal  # noqa: F401


def write(text: str) -> None:
    """Print a line of results.

    Raises:
        UnreadError: nobody reads it.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise UnreadError from error


def _check_file(out: Path | None, suffix: str) -> None:
    if out is not None:
        if out.suffix != suffix:
            raise ConfigError(f"--out must be a file named *{suffix}, got {out}")
        check_place(out, "--out", file=True)


def _demo(command: Demo) -> None:
    check_place(command.out, "--out")
    _load_libraries()
    from mechmem.cli.demo import run_demo
    from mechmem.cli.terminal import console

    show = not command.quiet
    tell = (lambda card: console().print(card)) if show and not command.json else (lambda card: None)
    entries = run_demo(command.out, seed=command.seed, device=command.device, progress=show, tell=tell)
    if command.json:
        names = ("hidden_rule", "heavy_noise")
        write(json.dumps({name: card.to_json() for name, (_, card) in zip(names, entries, strict=True)}))
    elif show:
        hidden = shlex.quote(str(command.out / "hidden_rule"))
        write(f"Report: {command.out / 'report.html'}. Next: mechmem discover {hidden}")


def _train(command: Train | TrainImages) -> None:
    config = command.config()
    out = command.out or Path("runs") / command.run_name(config)
    check_path(out, "--out")
    if not (out / "config.json").exists():
        check_place(out, "--out")
    _load_libraries()
    from mechmem.training.progress import accuracies_line
    from mechmem.training.train import train

    subject = train(config, out=out, device=command.device, progress=not command.quiet)
    assert subject.run is not None
    last = subject.run.history().iloc[-1].to_dict()
    row: dict[str, Any] = {key: None if value != value else value for key, value in last.items()}
    if command.json:
        write(json.dumps({"run": str(out), **row}))
    elif not command.quiet:
        write(f"{out}: step {row['step']:.0f}, {accuracies_line(row)}. Next: mechmem audit {shlex.quote(str(out))}")


def _audit(command: Audit) -> None:
    if command.out is not None:
        check_place(command.out, "--out")
    _load_libraries()
    from mechmem.cli.terminal import console
    from mechmem.core import files
    from mechmem.core.alike import check_alike
    from mechmem.pages.report import check_output, write_report
    from mechmem.scorecard.audit import audit
    from mechmem.scorecard.extractor import extractor
    from mechmem.scorecard.pooling import pool
    from mechmem.training.load import load

    if command.out is not None:
        check_output(command.out, {"scorecard.json", "report.html"})
    names = [extractor(name).name for name in command.extractors] or None
    subjects = [load(run, step=command.step, device=command.device) for run in command.runs]
    check_alike(subjects, "runs")
    cards = [audit(subject, names, progress=not command.quiet) for subject in subjects]
    card = cards[0] if len(cards) == 1 else pool(cards)
    if command.json:
        write(json.dumps(card.to_json()))
    elif not command.quiet:
        console().print(card)
    if command.out is not None:
        files.write_json(command.out / "scorecard.json", card.to_json())
        write_report(list(zip(subjects, cards, strict=True)), command.out / "report.html")
        if not command.json and not command.quiet:
            write(f"Report: {command.out / 'report.html'}")


def _measure(command: OfRun | Compare) -> None:
    if command.out is not None:
        check_export(command.out, "--out")
    if isinstance(command, LabelIssues) and command.review is not None:
        check_page(command.review, "--review", "a page of mechmem")
        if command.out is not None and command.out.resolve() == command.review.resolve():
            raise ConfigError(f"--review and --out must be two files, got {command.out} twice")
    _load_libraries()
    from mechmem.cli.measuring import run_measurement

    run_measurement(command, write)


def _explore(command: Explore) -> None:
    check_page(command.out, "--out", "a page of mechmem")
    _load_libraries()
    from mechmem.cli.measuring import write_page

    write_page(command, write)


def _examples(command: Examples) -> None:
    _check_file(command.out, ".csv")
    check_whole("--most", command.most, 1)
    _load_libraries()
    from mechmem.cli.terminal import console, examples_table
    from mechmem.core import files
    from mechmem.core.plugins import named
    from mechmem.examples.detection import below_chance, found_or_reason
    from mechmem.examples.table import example_scores
    from mechmem.training.load import load

    names = [named("example_scores", name).label() for name in command.scores]
    table = example_scores(load(command.run, device=command.device), names)
    if all(name in table.reasons for name in names):
        raise ScoreError("; ".join(f"no {name}: {why}" for name, why in table.reasons.items()))
    quality, reason = found_or_reason(table)
    if command.out is not None:
        with files.whole_file(command.out) as temporary:
            table.to_frame().to_csv(temporary, index=False)
    most = {name: each.most(command.most).tolist() for name, each in table.scores.items()}
    if command.json:
        figures = [] if quality is None else quality.to_frame().to_dict("records")
        remarks = {name: remark for name in most if (remark := below_chance(table, name))}
        found = {"detection": figures, "reason": reason, "most": most, "below_chance": remarks}
        write(json.dumps(found | {"missing": dict(table.reasons)}))
    elif not command.quiet:
        console().print(examples_table(table, quality, reason, most))
        if command.out is not None:
            write(f"Scores: {command.out}")


def _sweep(command: Sweep | SweepImages) -> None:
    command = told(command)
    cells = command.cells()
    _load_libraries()
    from mechmem.cli.sweeping import run_sweep

    run_sweep(command, cells, write)


def _sweep_table(command: SweepTable) -> None:
    if command.out is not None:
        check_export(command.out, "--out")
    _load_libraries()
    from mechmem.cli.sweeping import show_sweep

    show_sweep(command, write)


def _reproduce(command: Reproduce) -> None:
    if command.out is not None:
        check_place(command.out, "--out")
    _load_libraries()
    from mechmem.cli.sweeping import engine_settings
    from mechmem.cli.terminal import console, entry_lines, ledger_summary
    from mechmem.recipes.reproduce import reproduce

    show = not command.quiet and not command.json
    names = ("scale", "claims", "out", "engine", "workers", "most_seeds", "device")
    chosen = {name: getattr(command, name) for name in names}
    chosen["settings"] = engine_settings(command.engine_settings)
    tell = (lambda entry: console().print(entry_lines(entry))) if show else (lambda entry: None)
    ledger = reproduce(command.recipe, **chosen, progress=not command.quiet, tell=tell)
    if command.json:
        write(json.dumps(ledger.to_json()))
    elif show:
        console().print(ledger_summary(ledger))
        out = command.out or Path("reproductions") / f"{command.recipe}-{command.scale}"
        write(f"Ledger: {out / 'ledger.html'}")


def _list(command: List) -> None:
    _load_libraries()
    from mechmem.cli.terminal import console, plugin_list, plugin_rows

    rows = plugin_rows()
    kinds = dict.fromkeys(row["kind"] for row in rows)
    if command.kind and command.kind not in kinds:
        raise unknown_name("kind of plugin", command.kind, kinds)
    rows = [row for row in rows if command.kind in ("", row["kind"])]
    if command.json:
        write(json.dumps(rows))
    elif not command.quiet:
        console().print(plugin_list(rows))


COMMANDS: dict[str, tuple[type[CommonOptions], Callable[[Any], None]]] = {
    "demo": (Demo, _demo),
    "train": (Train, _train),
    "train-images": (TrainImages, _train),
    "audit": (Audit, _audit),
    "discover": (Discover, _measure),
    "analyse": (Analyse, _measure),
    "ablate": (Ablate, _measure),
    "patch": (Patch, _measure),
    "neuron": (Neuron, _measure),
    "label-issues": (LabelIssues, _measure),
    "over-training": (OverTraining, _measure),
    "compare": (Compare, _measure),
    "explore": (Explore, _explore),
    "examples": (Examples, _examples),
    "sweep": (Sweep, _sweep),
    "sweep-images": (SweepImages, _sweep),
    "sweep-table": (SweepTable, _sweep_table),
    "reproduce": (Reproduce, _reproduce),
    "list": (List, _list),
}
