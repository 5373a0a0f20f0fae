"""Benchmarks: every line is a ratio against a plain reference written here, both timed in this process.

A benchmark is a file `bench_<name>.py` of this folder with a function `run(add)`; it is found by being there. Each
first checks that the fast and the plain way agree numerically. Run all with `make bench`, or some by name
(`make bench ARGS="pruning caching"`), on a machine that does nothing else. Nothing here is a test of time: ratios are
printed beside the bar they are meant to clear. With `--once` every way is timed once, cold: quicker, and rough.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path

import timing
import torch
from rich.console import Console
from rich.table import Table
from timing import ROWS, add, alternately, note

__all__ = ["ROWS", "add", "alternately", "main", "note"]


def main() -> None:
    names = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="Print speed ratios.")
    parser.add_argument("benchmark", nargs="*", help=f"one of {', '.join(names)}; by default all")
    parser.add_argument("--once", action="store_true", help="time every way once, without a call to warm up")
    args = parser.parse_args()
    unknown = [name for name in args.benchmark if name not in names]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; one of {', '.join(names)}")
    timing.ROUNDS = 1 if args.once else None
    for name in args.benchmark or names:
        run = getattr(importlib.import_module(f"bench_{name}"), "run", None)
        # A benchmark of memory runs as a script of its own.
        if run is not None and "add" in inspect.signature(run).parameters:
            run(add)
    table = Table(title=f"mechmem benchmarks, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for head in ("what", "plain", "mechmem", "ratio"):
        table.add_column(head)
    for row in ROWS:
        table.add_row(*row)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
