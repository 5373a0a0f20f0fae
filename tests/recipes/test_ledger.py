"""Ledgers: what a claim became, in every form it is shown in."""

import dataclasses
import json
import math

import pandas as pd
import pytest

from mechmem.errors import RunDirectoryError
from mechmem.recipes.claims import COLUMNS, Claim, Recipe, Trial
from mechmem.recipes.conditions import at_least
from mechmem.recipes.ledger import Ledger, entry_of, lay_out, ours
from mechmem.training.config import TrainConfig


def trials(scale):
    return [Trial("arm", TrainConfig(steps=1, seed=seed)) for seed in range(3)]


CLAIMS = (
    Claim("good", "It is high <always>.", "measured", "about .9", trials, conditions=(at_least("test", "arm", 0.8),)),
    Claim("bad", "It is higher.", trials=trials, conditions=(at_least("test", "arm", 0.99),)),
    Claim("later", "It flies.", pending="needs wings"),
)
RECIPE = Recipe("toy", "A toy", "nowhere", CLAIMS, ("Nothing is meant.",))
TABLE = pd.DataFrame(
    [("arm", seed, "test", math.nan, value) for seed, value in enumerate((0.9, 0.91, 0.92))], columns=list(COLUMNS)
)


@pytest.fixture
def ledger():
    entries = tuple(entry_of(claim, "small", claim.runs("small"), None if claim.pending else TABLE) for claim in CLAIMS)
    return Ledger("toy", "A toy", "nowhere", "small", RECIPE.caveats, entries, 61.0, {"mechmem": "0"})


def test_entries_carry_verdict_seeds_and_runs(ledger):
    assert [entry.verdict for entry in ledger.entries] == ["reproduced", "not reproduced", "pending"]
    good, bad, later = ledger.entries
    assert good.seeds == 3 and good.runs == tuple(trial.config.digest for trial in trials("small"))
    assert bad.reason == "fails: test [arm] ≥ 0.99" and later.reason == "needs wings" and later.seeds == 0


def test_a_failed_run_leaves_its_claim_unjudged():
    entry = entry_of(CLAIMS[0], "small", trials("small"), None, "run abc failed: the loss is nan")
    assert entry.verdict == "not judged" and "nan" in entry.reason


def test_frame_and_json_hold_every_condition(ledger):
    frame = ledger.to_frame()
    assert frame["claim"].tolist() == ["good", "bad", "later"]
    assert frame["outcome"].tolist() == ["holds", "fails", ""]
    assert frame["value"][0] == pytest.approx(0.91) and math.isnan(frame["value"][2])
    plain = json.loads(json.dumps(ledger.to_json(), allow_nan=False))
    assert plain["entries"][0]["findings"][0]["estimate"]["n"] == 3


def test_one_seed_has_no_interval_in_json_nor_in_words():
    entry = entry_of(CLAIMS[0], "small", trials("small")[:1], TABLE.iloc[:1])
    assert entry.verdict == "undecided"
    assert ours(entry.findings[0]) == "test [arm] ≥ 0.8: 0.900 (n = 1)"
    ledger = Ledger("toy", "A toy", "nowhere", "small", (), (entry,), 1.0, {})
    assert ledger.to_json()["entries"][0]["findings"][0]["estimate"]["low"] is None


def test_saved_and_loaded_it_is_the_same(ledger, tmp_path):
    ledger.save(tmp_path / "ledger.safetensors")
    assert Ledger.load(tmp_path / "ledger.safetensors") == ledger
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "ledger.safetensors").read_bytes()[:40])
    with pytest.raises(RunDirectoryError):
        Ledger.load(tmp_path / "torn.safetensors")


def test_html_says_everything_and_escapes(ledger, tmp_path):
    assert "&lt;always&gt;" in ledger._repr_html_()
    lay_out(ledger, dict.fromkeys(("good", "bad", "later")), tmp_path / "l.html")
    page = (tmp_path / "l.html").read_text(encoding="utf-8")
    for text in (
        "&lt;always&gt;",
        "needs wings",
        "not reproduced",
        "Nothing is meant.",
        "about .9",
        "holds",
        "(3 seeds)",
    ):
        assert text in page
    single = dataclasses.replace(ledger, entries=(dataclasses.replace(ledger.entries[0], seeds=1),))
    lay_out(single, {"good": None}, tmp_path / "l.html")
    assert "(1 seed)" in (tmp_path / "l.html").read_text(encoding="utf-8")


def test_a_ledger_for_a_paper(ledger):
    table = ledger.to_latex()
    judged = [entry.key.replace("_", r"\_") for entry in ledger.entries if entry.findings]
    assert judged and all(key in table for key in judged) and r"\toprule" in table
    assert table.count(" & ") == 2 * (1 + sum(len(entry.findings) for entry in ledger.entries))
