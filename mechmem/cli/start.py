"""Start of the command line: while its libraries load, an interrupt ends the process at once, in one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def nothing_begun() -> Iterator[None]:
    """Exit at once on SIGINT or SIGTERM in the block, which does nothing that could be kept.

    Raised inside an import, an interrupt can be lost or abort the process. A signal that is ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    # `interruptible` may have put its own handler in place already.
    ours = [
        each
        for each, handler in before.items()
        if handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", "") == "mechmem.core.processes"
    ]
    for each in ours:
        signal.signal(each, lambda number, _: os._exit(_said(number)))
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, before[each])


def _said(number: int) -> int:
    # Not by sys.stderr, which may hold its lock or stand for something else.
    os.write(2, b"mechmem: interrupted before anything was done\n")
    return 128 + number


def main() -> int:
    """Run the command line and return its exit status."""
    # None where the caller has closed them; libraries write to them without asking.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # "→" where the encoding of the terminal has none
    with nothing_begun():
        from mechmem.cli.main import main as run
    try:
        return run()
    except KeyboardInterrupt:  # a second one, after what the first interrupted has ended
        return 128 + signal.SIGINT
    finally:
        # What follows is Python's own end, in which an interrupt would be a traceback.
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
