"""Every recipe from its command to its page, at the scale that runs the code of every claim and judges nothing."""

import pytest
from markupsafe import escape

import mechmem as mm
from mechmem.cli.main import main
from mechmem.recipes.papers.liu_lin_jaggi_2021.measured import HALF
from mechmem.recipes.trials import recipes

UNMEASURED = {
    # A dozen steps fit nothing, so that there is no step by which half is fitted, and nothing to flip.
    "liu_lin_jaggi_2021": (HALF,),
    "maini_2023": ("units to flip",),
    "merullo_2025": ("memorized over clean inputs",),
    # Four held-out cells per symbol are needed to tell structure from chance.
    "liu_lu_2026": ("Z [",),
    # Nothing groks in a dozen steps, so that events and phases are not there.
    "doshi_2024": ("t_grok",),
    "nanda_2023": ("t_grok", "formation", "cleanup", "memo"),
}
"""Words of the quantities that so small a run cannot have, by recipe."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_measures_every_quantity_that_a_claim_asks_for(name, tmp_path, capsys):
    command = ["reproduce", name, "--scale", "smoke", "--out", str(tmp_path), "--workers", "1", "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out == ""
    ledger = mm.Ledger.load(tmp_path / "ledger.safetensors")
    claims = {claim.key: claim for claim in recipes()[name].claims}
    assert {entry.key: entry.verdict for entry in ledger.entries} == {
        key: "pending" if claim.pending else "not judged" for key, claim in claims.items()
    }
    missing = {f.condition: f.reason for entry in ledger.entries for f in entry.findings if f.estimate is None}
    unmeasured = UNMEASURED.get(name, ())
    assert all(any(word in each for word in unmeasured) for each in missing), missing
    page = (tmp_path / "ledger.html").read_text(encoding="utf-8")
    for entry in ledger.entries:
        assert escape(entry.statement) in page
        assert all(escape(finding.condition) in page for finding in entry.findings)
    assert page.count('class="mechmem-plot"') == sum(
        claim.draw is not None and not claim.pending for claim in claims.values()
    )
