"""The command line: parse, call, print."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from mechmem.cli.commands import Audit, CommonOptions, Demo, Examples, List, Reproduce, Train, TrainImages
from mechmem.cli.grouping import grouped, ungrouped
from mechmem.cli.lines import UnreadError, check_line, check_parsed, in_one_line
from mechmem.cli.measurements import Ablate, Analyse, Compare, Discover, Explore, Neuron, OfRun, OverTraining, Patch
from mechmem.cli.start import nothing_begun
from mechmem.core.config import check_whole
from mechmem.core.export import check_export, check_page
from mechmem.core.files import is_full
from mechmem.core.paths import check_path, check_place
from mechmem.core.processes import TERMINATED, Terminated, deaf, interruptible
from mechmem.errors import ConfigError, MechmemError, ScoreError, TrainingFailedError, unknown_name

REFUSED, FAILED, INTERRUPTED, UNREAD = 2, 1, 128 + signal.SIGINT, 128 + 13

DESCRIPTION = """Measure what a trained network memorized, what it generalized, and whether hidden accuracy is in the
network or only in its labels. `mechmem --version` prints the version."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: done. 1: the run failed. 2: refused before anything was written. 130: interrupted, progress is saved. 141: nobody
    reads what is printed any more. 143: ended by SIGTERM, progress is saved.
    """
    try:
        status = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except (BrokenPipeError, UnreadError):
        # Python flushes once more at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    return status


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        _write(importlib.metadata.version("mechmem"))
        return 0
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-") and arguments[0]:
        return _complain(str(unknown_name("command", arguments[0], COMMANDS)), REFUSED)
    box = io.StringIO()
    try:
        check_line(arguments)
        with nothing_begun(), contextlib.redirect_stderr(box):
            parsed = tyro.extras.subcommand_cli_from_dict(
                {name: grouped(command) for name, (command, _) in COMMANDS.items()},
                prog="mechmem",
                description=DESCRIPTION,
                args=arguments or ["--help"],
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
        command = ungrouped(COMMANDS[arguments[0]][0], parsed)
        check_parsed(arguments[0], command, arguments)
    except ConfigError as error:
        return _complain(str(error), REFUSED)
    except SystemExit as stop:
        return _complain(in_one_line(box.getvalue(), arguments), REFUSED) if stop.code else 0
    return _guard(lambda: COMMANDS[arguments[0]][1](command), arguments)


def _guard(run: Callable[[], None], arguments: list[str]) -> int:
    """Turn errors into one line and an exit status, and warnings into a line each."""
    try:
        with interruptible(leave=False), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: sys.stderr.write(f"mechmem: warning: {message}\n")
            run()
    except MechmemError as error:
        failed = isinstance(error, TrainingFailedError) or is_full(error.__cause__)
        return _complain(str(error), FAILED if failed else REFUSED)
    except OSError as error:
        return _complain(str(error), FAILED)
    except KeyboardInterrupt as interrupt:
        how, status = ("ended", TERMINATED) if isinstance(interrupt, Terminated) else ("interrupted", INTERRUPTED)
        again = shlex.join(["mechmem", *arguments])
        with deaf():
            # What the command held is let go here: a second interrupt in a finalizer would be printed with a traceback.
            interrupt.__traceback__ = interrupt.__context__ = interrupt.__cause__ = None
            return _complain(f"{how}; progress is saved. To resume: {again}", status)
    return 0


def _load_libraries() -> None:
    """Load the slow libraries, once the command has been parsed."""
    with nothing_begun():
        import mechmem.cli.demo
        import mechmem.cli.terminal  # noqa: F401


def _complain(message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody may be reading
        sys.stderr.write(f"mechmem: {' '.join(message.split())}\n")
        sys.stderr.flush()
    return status


def _write(text: str) -> None:
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
        _write(json.dumps({name: card.to_json() for name, (_, card) in zip(names, entries, strict=True)}))
    elif show:
        hidden = shlex.quote(str(command.out / "hidden_rule"))
        _write(f"Report: {command.out / 'report.html'}. Next: mechmem discover {hidden}")


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
        _write(json.dumps({"run": str(out), **row}))
    elif not command.quiet:
        _write(f"{out}: step {row['step']:.0f}, {accuracies_line(row)}. Next: mechmem audit {shlex.quote(str(out))}")


def _audit(command: Audit) -> None:
    if command.out is not None:
        check_place(command.out, "--out")
    _load_libraries()
    from mechmem.cli.terminal import console
    from mechmem.core import files
    from mechmem.core.subject import check_alike
    from mechmem.pages.report import check_output, write_report
    from mechmem.scorecard.audit import audit
    from mechmem.scorecard.extractor import extractor
    from mechmem.scorecard.pooling import pool
    from mechmem.training.train import load

    if command.out is not None:
        check_output(command.out, {"scorecard.json", "report.html"})
    names = [extractor(name).name for name in command.extractors] or None
    subjects = [load(run, step=command.step, device=command.device) for run in command.runs]
    check_alike(subjects, "runs")
    cards = [audit(subject, names, progress=not command.quiet) for subject in subjects]
    card = cards[0] if len(cards) == 1 else pool(cards)
    if command.json:
        _write(json.dumps(card.to_json()))
    elif not command.quiet:
        console().print(card)
    if command.out is not None:
        files.write_json(command.out / "scorecard.json", card.to_json())
        write_report(list(zip(subjects, cards, strict=True)), command.out / "report.html")
        if not command.json and not command.quiet:
            _write(f"Report: {command.out / 'report.html'}")


def _measure(command: OfRun | Compare) -> None:
    if command.out is not None:
        check_export(command.out, "--out")
    _load_libraries()
    from mechmem.cli.measuring import run_measurement

    run_measurement(command, _write)


def _explore(command: Explore) -> None:
    check_page(command.out, "--out", "a page of mechmem")
    _load_libraries()
    from mechmem.cli.measuring import write_page

    write_page(command, _write)


def _examples(command: Examples) -> None:
    _check_file(command.out, ".csv")
    check_whole("--most", command.most, 1)
    _load_libraries()
    from mechmem.cli.terminal import console, examples_table
    from mechmem.core import files
    from mechmem.core.plugins import named
    from mechmem.examples.detection import below_chance, found_or_reason
    from mechmem.examples.table import example_scores
    from mechmem.training.train import load

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
        _write(json.dumps(found | {"missing": dict(table.reasons)}))
    elif not command.quiet:
        console().print(examples_table(table, quality, reason, most))
        if command.out is not None:
            _write(f"Scores: {command.out}")


def _reproduce(command: Reproduce) -> None:
    if command.out is not None:
        check_place(command.out, "--out")
    _load_libraries()
    from mechmem.cli.terminal import console, entry_lines, ledger_summary
    from mechmem.recipes.reproduce import reproduce

    show = not command.quiet and not command.json
    settings = {name: getattr(command, name) for name in ("scale", "claims", "out", "workers", "device")}
    tell = (lambda entry: console().print(entry_lines(entry))) if show else (lambda entry: None)
    ledger = reproduce(command.recipe, **settings, progress=not command.quiet, tell=tell)
    if command.json:
        _write(json.dumps(ledger.to_json()))
    elif show:
        console().print(ledger_summary(ledger))
        out = command.out or Path("reproductions") / f"{command.recipe}-{command.scale}"
        _write(f"Ledger: {out / 'ledger.html'}")


def _list(command: List) -> None:
    _load_libraries()
    from mechmem.cli.terminal import console, plugin_list, plugin_rows

    rows = plugin_rows()
    kinds = dict.fromkeys(row["kind"] for row in rows)
    if command.kind and command.kind not in kinds:
        raise unknown_name("kind of plugin", command.kind, kinds)
    rows = [row for row in rows if command.kind in ("", row["kind"])]
    if command.json:
        _write(json.dumps(rows))
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
    "over-training": (OverTraining, _measure),
    "compare": (Compare, _measure),
    "explore": (Explore, _explore),
    "examples": (Examples, _examples),
    "reproduce": (Reproduce, _reproduce),
    "list": (List, _list),
}

if __name__ == "__main__":
    sys.exit(main())
