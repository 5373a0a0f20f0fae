"""Seeds that are added until a claim is decided: error rates over all looks, and which runs are asked for."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.recipes.claims import COLUMNS, Claim, Recipe, Trial
from mechmem.recipes.conditions import LEVEL, LOOKS, at_least, at_most, looks


def one_arm(values):
    rows = [("arm", seed, "q", np.nan, value) for seed, value in enumerate(values)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def decided(values, level, numbers):
    """Return which rows of values are decided against their true mean 0 at any of these numbers of seeds."""
    found = np.zeros(len(values), bool)
    for n in numbers:
        seen = values[:, :n]
        half = stats.t.ppf((1 + level) / 2, n - 1) * seen.std(1, ddof=1) / np.sqrt(n)
        found |= np.abs(seen.mean(1)) > half
    return found


@pytest.mark.parametrize("numbers", [LOOKS, looks(5, 20), looks(10, 20), looks(3, 8)], ids=str)
def test_a_mean_that_is_its_bound_is_decided_in_at_most_5_percent_however_often_one_looks(numbers):
    draws = np.random.default_rng(17).standard_normal((60_000, LOOKS[-1]))
    rate = decided(draws, LEVEL, numbers).mean()
    assert rate < 0.05, rate
    # The interval of 95 % that allows for no second look would not keep the rate.
    assert decided(draws, 0.95, numbers).mean() > 0.07


def test_the_simulation_is_of_the_rule_that_judges():
    draws = np.random.default_rng(3).standard_normal((200, LOOKS[-1]))
    for n in LOOKS[:3]:
        wanted = decided(draws, LEVEL, [n])
        for row, expected in zip(draws, wanted, strict=True):
            finding = at_least("q", "arm", 0.0).judge(one_arm(row[:n]))
            assert (finding.outcome != "undecided") == expected
            assert finding.low <= finding.estimate.low <= finding.estimate.high <= finding.high


def test_the_earlier_rule_stays_visible():
    values = (0.90, 0.92, 0.91, 0.80, 0.99)
    finding = at_least("q", "arm", 0.85).judge(one_arm(values))
    assert (finding.at_first, finding.outcome) == ("holds", "undecided") and finding.estimate.n == 5


def test_a_claim_starts_with_its_own_seeds_and_is_looked_at_after_more():
    assert looks(3, 20) == [3, 5, 8, 12, 20] and looks(3, 10) == [3, 5, 8]
    assert looks(10, 20) == [10, 12, 20] and looks(5, 3) == [5]


def config(seed, **settings):
    task = mm.ModularConfig(p=5, train_fraction=0.5, seed=seed)
    return mm.TrainConfig(task, mm.MLPConfig(4), steps=2, evaluations=1, checkpoints=1, seed=seed, **settings)


def test_runs_of_an_arm_are_continued_with_the_seeds_after_its_last():
    def trials(scale):
        return [Trial("a", config(seed)) for seed in (7, 8, 9)] + [
            Trial("b", config(seed, lr=0.1)) for seed in range(5)
        ]

    claim = Claim("key", "It holds.", trials=trials, conditions=[at_least("q", "a", 0.5)])
    assert claim.base("small") == 3
    more = claim.runs("small", 4)
    assert [(t.arm, t.config.seed) for t in more] == [("a", s) for s in (7, 8, 9, 10)] + [("b", s) for s in range(5)]
    assert more[3].config == config(10)
    assert claim.runs("small") == trials("small")


def measured(subject):
    """Values around .5 by the seed, as wide at every look."""
    value = (0.48, 0.52, 0.5, 0.49, 0.51)[subject.run.config.seed % 5]
    return pd.DataFrame({"quantity": ["wide", "sure"], "x": np.nan, "value": [value, 0.9]})


def planted(*conditions):
    def trials(scale):
        return [Trial("arm", config(seed)) for seed in range(3)]

    claims = tuple(
        Claim(f"c{number}", "It holds.", "planted", trials=trials, measure=measured, conditions=[condition])
        for number, condition in enumerate(conditions)
    )
    return Recipe("planted", "A plant", "nowhere", claims, ("Nothing.",))


def test_seeds_are_added_only_to_claims_that_they_may_decide(tmp_path, monkeypatch):
    recipe = planted(at_least("sure", "arm", 0.5), at_most("wide", "arm", 0.478), at_least("wide", "arm", 0.4993))
    monkeypatch.setattr("mechmem.recipes.trials.recipes", lambda: {"planted": recipe})
    settings = {"out": tmp_path / "r", "engine": "inline", "progress": False}
    few = mm.reproduce("planted", most_seeds=5, **settings)
    assert [entry.seeds for entry in few.entries] == [3, 5, 5]
    assert [entry.verdict for entry in few.entries] == ["reproduced", "undecided", "undecided"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("r/runs/*/finished.json")}
    told = []
    more = mm.reproduce("planted", tell=told.append, **settings)
    assert [entry.verdict for entry in more.entries] == ["reproduced", "not reproduced", "undecided"]
    assert [entry.seeds for entry in more.entries][::2] == [3, 20] and 5 < more.entries[1].seeds < 20
    assert [entry.key for entry in told] == ["c0", "c1", "c2"]
    # What stood was not trained again, and the interval of the last look has as many seeds as were trained.
    assert all(path.stat().st_mtime_ns == made for path, made in before.items())
    assert more.entries[2].findings[0].estimate.n == 20 == len(list(tmp_path.glob("r/runs/*")))
    assert "first three seeds" in (tmp_path / "r" / "ledger.html").read_text(encoding="utf-8")
    assert mm.Ledger.load(tmp_path / "r" / "ledger.safetensors") == more


def test_a_claim_that_needs_more_seeds_waits_for_them_while_runs_of_others_end(tmp_path, monkeypatch):
    recipe = planted(at_least("wide", "arm", 0.4993), at_least("wide", "arm", 0.4993))
    other = dataclasses.replace(
        recipe.claims[1], trials=lambda scale: [Trial("arm", config(seed, lr=0.1)) for seed in range(3)]
    )
    recipe = dataclasses.replace(recipe, claims=(recipe.claims[0], other))
    monkeypatch.setattr("mechmem.recipes.trials.recipes", lambda: {"planted": recipe})
    found = mm.reproduce("planted", out=tmp_path / "r", engine="inline", progress=False)
    assert [entry.seeds for entry in found.entries] == [20, 20]


@pytest.mark.parametrize("most", [2, 21])
def test_numbers_of_seeds_for_which_no_error_rate_is_kept_are_refused(most, tmp_path):
    with pytest.raises(ConfigError, match="number of seeds must be"):
        mm.reproduce("doshi_2024", most_seeds=most, out=tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_a_claim_whose_premise_fails_waits_for_no_more_seeds(scale, tmp_path, monkeypatch):
    recipe = planted(at_least("wide", "arm", 0.4993))
    recipe = dataclasses.replace(
        recipe, claims=(dataclasses.replace(recipe.claims[0], premises=[at_most("sure", "arm", 0.5)]),)
    )
    monkeypatch.setattr("mechmem.recipes.trials.recipes", lambda: {"planted": recipe})
    settings = {"out": tmp_path / "r", "engine": "inline", "progress": False}
    (entry,) = mm.reproduce("planted", scale=scale, **settings).entries
    assert entry.seeds == 3 and entry.reason.startswith("premise fails")
    assert entry.verdict == {"small": "not at this scale", "paper": "undecided"}[scale]


def test_a_claim_that_was_not_measured_everywhere_waits_for_no_more_seeds(tmp_path, monkeypatch):
    recipe = planted(at_least("sure", "arm", 0.5))
    missing = dataclasses.replace(
        recipe.claims[0],
        measure=lambda subject: measured(subject).assign(value=np.nan),
        conditions=[at_least("wide", "arm", 0)],
    )
    recipe = dataclasses.replace(recipe, claims=(missing,))
    monkeypatch.setattr("mechmem.recipes.trials.recipes", lambda: {"planted": recipe})
    (entry,) = mm.reproduce("planted", out=tmp_path / "r", engine="inline", progress=False).entries
    assert entry.verdict == "undecided" and entry.seeds == 3 and "not measured in 3 runs" in entry.findings[0].reason
