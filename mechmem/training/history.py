"""History of a run: an evaluation per line, the predictions of each in a side file, and a chain of hashes over both.

A line's hash depends on its values, on its predictions, and on the hash of the line before it; the first one's on the
run. So a line that was changed, lost, repeated or moved is noticed, and one hash in a checkpoint stands for every
evaluation before it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mechmem.core.files import HASH, check_regular, hash_of, parse_json, whole_file
from mechmem.errors import RunDirectoryError

LINES, BITS = "history.jsonl", "history.bits"
LONGEST_LINE = 2**16
"""Most bytes of a line; an evaluation takes a few hundred."""


@dataclasses.dataclass(frozen=True)
class History:
    """Evaluations of a run, up to the first that cannot be trusted.

    Attributes:
        rows: the evaluations: step, losses, accuracies.
        lines: the line of each, as it is in the file.
        bits: the packed predictions of each.
        marks: the hash after each; one more than there are rows, as the first stands for the run itself.
        fault: what is wrong with the evaluation that would come next, or "" if these are all. A kill while one is being
            written is no fault.
    """

    rows: tuple[dict[str, Any], ...]
    lines: tuple[bytes, ...]
    bits: tuple[bytes, ...]
    marks: tuple[str, ...]
    fault: str = ""

    def up_to(self, step: int) -> History:
        """Return the evaluations up to a step."""
        kept = sum(row["step"] <= step for row in self.rows)
        return History(self.rows[:kept], self.lines[:kept], self.bits[:kept], self.marks[: kept + 1])

    def seal(self) -> str:
        """Return what a checkpoint or the end of a run keeps of these evaluations: their number and the last hash."""
        return f"{len(self.rows)} {self.marks[-1]}"

    def begins_as(self, seal: str) -> bool:
        """Return whether these evaluations begin with those of a seal."""
        count = seal.partition(" ")[0]
        kept = int(count) if count.isdecimal() and len(count) < 10 else len(self.rows) + 1
        return kept <= len(self.rows) and seal == f"{kept} {self.marks[kept]}"

    def added(self, row: Mapping[str, Any], bits: bytes) -> History:
        """Return these evaluations and one more."""
        mark = _mark(self.marks[-1], row, bits)
        line = json.dumps({**row, HASH: mark}, allow_nan=False).encode() + b"\n"
        return History((*self.rows, dict(row)), (*self.lines, line), (*self.bits, bits), (*self.marks, mark))


def no_history(run: str) -> History:
    """Return the history of a run that has not been evaluated.

    Args:
        run: hash of the run's header.
    """
    return History((), (), (), (run,))


def read_history(path: Path, run: str, width: int, *, hashed: bool) -> History:
    """Read the history of a run.

    Args:
        path: the run directory.
        run: hash of the run's header.
        width: bytes of predictions per evaluation.
        hashed: whether every line must have a hash, as older versions did not write them.

    Raises:
        RunDirectoryError: a file is not a regular file, or cannot be read.
    """
    for name in (LINES, BITS):
        if not os.path.lexists(path / name):
            return dataclasses.replace(no_history(run), fault=f"there is no {name}")
        check_regular(path / name)
    rows: list[dict[str, Any]] = []
    lines: list[bytes] = []
    bits: list[bytes] = []
    marks, fault = [run], ""
    try:
        with (path / LINES).open("rb") as text, (path / BITS).open("rb") as packed:
            while not fault and (line := text.readline(LONGEST_LINE)):
                last, row = not text.peek(1), _row(line)
                if row is None:
                    # The process was killed while it wrote the last line, and its predictions stand without one.
                    fault = "" if last and len(line) < LONGEST_LINE else "is not an evaluation"
                    break
                predicted = packed.read(width)
                written = row.pop(HASH, None)
                mark = _mark(marks[-1], row, predicted)
                if rows and row["step"] <= rows[-1]["step"]:
                    fault = f"is of step {row['step']}, after step {rows[-1]['step']}"
                elif len(predicted) < width:
                    fault = f"has no predictions in {BITS}"
                elif written != mark and (hashed or written is not None):
                    fault = "was changed after it was written, or those before it were"
                else:
                    rows.append(row)
                    lines.append(line.rstrip(b"\n") + b"\n")
                    bits.append(predicted)
                    marks.append(mark)
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path / LINES}: {error}") from error
    found = f"line {len(rows) + 1} {fault}" if fault else ""
    return History(tuple(rows), tuple(lines), tuple(bits), tuple(marks), found)


def write_history(path: Path, history: History) -> None:
    """Replace the history of a run."""
    # The lines first: a kill in between leaves predictions without a line, which nobody reads.
    for name, parts in ((LINES, history.lines), (BITS, history.bits)):
        with whole_file(path / name) as temporary:
            temporary.write_bytes(b"".join(parts))


def append(path: Path, history: History) -> None:
    """Append the last evaluation of a history to its files."""
    # The predictions first, so that every line has them.
    for name, parts in ((BITS, history.bits), (LINES, history.lines)):
        with (path / name).open("r+b") as file:
            # After what an interrupt or a full disk may have cut off.
            file.seek(sum(map(len, parts[:-1])))
            file.truncate()
            file.write(parts[-1])


def flush(path: Path) -> None:
    """Write the history through to the disk, before a checkpoint vouches for it."""
    for name in (BITS, LINES):
        with (path / name).open("rb") as file:
            os.fsync(file.fileno())


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the evaluation on a line; None if it is none."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    values = (value for name, value in row.items() if name != HASH)
    return row if all(value is None or isinstance(value, int | float) for value in values) else None


def _mark(before: str, row: Mapping[str, Any], bits: bytes) -> str:
    return hash_of(before, row, hashlib.blake2b(bits, digest_size=8).hexdigest())
