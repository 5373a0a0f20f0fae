"""The ledgers of the documentation: python docs/ledgers.py REPRODUCTION...

Keeps what finished reproductions found, in `results/ledgers/`. The page of ledgers, and a page with figures for each,
are made from there when the documentation is built.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

import mechmem as mm
from mechmem.recipes.claims import COLUMNS
from mechmem.recipes.ledger import measured, write_page
from mechmem.recipes.trials import recipe, recipes

HELD = Path(__file__).parent / "results" / "ledgers"
VERDICTS = ("reproduced", "not reproduced", "not at this scale", "undecided", "pending")


def keep(folder: Path) -> None:
    """Copy a finished reproduction's ledger, and the tables behind it."""
    ledger = mm.Ledger.load(folder / "ledger.safetensors")
    tables = measured(ledger, recipe(ledger.recipe), folder)
    table = pd.concat([table.assign(claim=key) for key, table in tables.items()], ignore_index=True)
    words = table.select_dtypes(exclude=["number", "bool"]).columns
    table.astype(dict.fromkeys(words, "category")).to_parquet(HELD / f"{ledger.recipe}.parquet", compression="zstd")
    ledger.save(HELD / f"{ledger.recipe}.safetensors")


def ledgers() -> dict[str, mm.Ledger]:
    """Return the kept ledgers by their recipes' names."""
    return {path.stem: mm.Ledger.load(path) for path in sorted(HELD.glob("*.safetensors"))}


def summary() -> str:
    """Return a Markdown table of the number of claims with each verdict, a line per paper."""
    heads = ["paper", "claims", *VERDICTS, "seeds"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    counted = []
    for name, ledger in ledgers().items():
        said = [entry.verdict for entry in ledger.entries]
        seeds = [entry.seeds for entry in ledger.entries if entry.seeds]
        counted.append([len(said), *map(said.count, VERDICTS)])
        cells = [
            f"[{name}](#{name.replace('_', '-')})",
            *counted[-1],
            "–".join(map(str, sorted({min(seeds), max(seeds)}))),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    cells = ["**all**", *map(sum, zip(*counted, strict=True))]
    lines.append(f"| {' | '.join(map(str, cells))} | |")
    return "\n".join(lines)


def pages(folder: Path) -> None:
    """Write the page of each kept ledger, with its figures, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, ledger in ledgers().items():
        rows = pd.read_parquet(HELD / f"{name}.parquet")
        tables = {str(key): part[list(COLUMNS)] for key, part in rows.groupby("claim", sort=False, observed=True)}
        write_page(ledger, recipes()[name], tables, folder / f"{name}.html")


if __name__ == "__main__":
    HELD.mkdir(parents=True, exist_ok=True)
    for each in sys.argv[1:]:
        keep(Path(each))
