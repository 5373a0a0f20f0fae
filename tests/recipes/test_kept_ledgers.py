"""The ledgers of the documentation belong to today's recipes."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from mechmem.recipes.claims import COLUMNS
from mechmem.recipes.trials import recipes

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
from ledgers import HELD, VERDICTS, ledgers, summary  # noqa: E402

KEPT = ledgers()


@pytest.mark.parametrize("name", KEPT)
def test_claims_runs_and_verdicts_are_those_of_the_recipe(name):
    ledger, recipe = KEPT[name], recipes()[name]
    tables = dict(list(pd.read_parquet(HELD / f"{name}.parquet").groupby("claim", observed=True)))
    assert [entry.key for entry in ledger.entries] == [claim.key for claim in recipe.claims]
    for entry, claim in zip(ledger.entries, recipe.claims, strict=True):
        assert entry.verdict in VERDICTS
        assert set(entry.runs) == {trial.config.digest for trial in claim.runs(ledger.scale, entry.seeds or None)}
        if not claim.pending:
            verdict, _, findings = claim.judge(tables[claim.key][list(COLUMNS)], ledger.scale)
            assert (verdict, findings) == (entry.verdict, entry.findings)


def test_the_summary_counts_every_claim():
    last = summary().splitlines()[-1].split("|")[2:-2]
    total, *by_verdict = map(int, last)
    assert total == sum(by_verdict) == sum(len(ledger.entries) for ledger in KEPT.values())
