"""The command line: parse, run, and turn errors into one line and an exit status."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import io
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable

import tyro

from mechmem.cli.grouping import grouped, ungrouped
from mechmem.cli.lines import UnreadError, check_line, check_parsed, gathered, in_one_line
from mechmem.cli.running import COMMANDS, write
from mechmem.cli.start import nothing_begun
from mechmem.core.files import is_full
from mechmem.core.processes import TERMINATED, Terminated, deaf, interruptible
from mechmem.errors import ConfigError, MechmemError, TrainingFailedError, unknown_name

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
        write(importlib.metadata.version("mechmem"))
        return 0
    if arguments and arguments[0] not in COMMANDS and not arguments[0].startswith("-") and arguments[0]:
        return _complain(str(unknown_name("command", arguments[0], COMMANDS)), REFUSED)
    box = io.StringIO()
    try:
        arguments = gathered(arguments)
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
        return _complain(in_one_line(box.getvalue(), arguments, _options(arguments)), REFUSED) if stop.code else 0
    return _guard(lambda: COMMANDS[arguments[0]][1](command), arguments)


def _options(arguments: list[str]) -> list[str]:
    """Return the options of a line's command."""
    command = COMMANDS[arguments[0]][0] if arguments and arguments[0] in COMMANDS else None
    fields = () if command is None else dataclasses.fields(command)
    return ["--" + field.name.replace("_", "-") for field in fields]


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
        kept = "; progress is saved. To resume" if COMMANDS[arguments[0]][0].keeps else ". To run it again"
        again = shlex.join(["mechmem", *arguments])
        with deaf():
            # What the command held is let go here: a second interrupt in a finalizer would be printed with a traceback.
            interrupt.__traceback__ = interrupt.__context__ = interrupt.__cause__ = None
            return _complain(f"{how}{kept}: {again}", status)
    return 0


def _complain(message: str, status: int) -> int:
    with contextlib.suppress(OSError):  # nobody may be reading
        sys.stderr.write(f"mechmem: {' '.join(message.split())}\n")
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    sys.exit(main())
