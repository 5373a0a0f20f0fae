"""Blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator


def blocks(n: int, rows: int) -> Iterator[slice]:
    """Yield slices of at most `rows` (at least 1) that cover 0 … n."""
    rows = max(1, rows)
    for start in range(0, n, rows):
        yield slice(start, min(start + rows, n))
