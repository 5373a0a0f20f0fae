"""How long the package and the command line take to load."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from timing import note


def run(add: Callable[..., None]) -> None:
    for what, command, bar in (
        ("import mechmem", [sys.executable, "-c", "import mechmem"], 0.3),
        ("mechmem --help", [sys.executable, "-m", "mechmem.cli.main", "--help"], 0.5),
    ):
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        note(what, f"{1e3 * statistics.median(seconds):.0f} ms", f"≤ {1e3 * bar:.0f} ms")
