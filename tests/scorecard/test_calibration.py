"""Rates of false verdicts over many draws, and the table of the documentation."""

from pathlib import Path

import pandas as pd
import pytest
from verdict_draws import NULLS, PLANTS, TRAINED, Setting, rule
from verdict_rates import SETTINGS, VERDICTS, drawn, trained

PAGE = Path(__file__).parents[2] / "docs" / "calibration.csv"
HEAVY = Setting(31, 0.8, 0.8)


def rate(found, verdict):
    said = [each.verdict for each in found]
    return said.count(verdict) / len(said)


@pytest.mark.slow
@pytest.mark.parametrize("name", NULLS)
def test_logits_without_a_rule_are_hardly_ever_called_one(name):
    assert rate(drawn(NULLS[name], HEAVY, 300), "rule") <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTS)
def test_another_rule_is_hardly_ever_called_the_rule(name):
    """The answers are the same in every draw; the split, and what was left out, are not."""
    assert rate(drawn(PLANTS[name], Setting(31, 0.5, 0.35), 100), "rule") <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("setting", [HEAVY, Setting(31, 0.5, 0.35), Setting(59, 0.8, 0.3)], ids=str)
def test_the_rule_is_recognised_from_a_third_of_its_strength_on(setting):
    draws = 100 if setting.p == 31 else 30
    assert rate(drawn(rule(0.3), setting, draws), "rule") >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trained, 80 % of the labels wrong", "nearly tied, 80 % wrong"])
def test_networks_that_memorized_are_not_called_a_rule(name):
    assert rate(trained(name, 25), "rule") == 0


def test_the_table_of_the_documentation_covers_every_draw_and_keeps_what_it_promises():
    table = pd.read_csv(PAGE)
    assert set(table.logits[table.kind == "no rule"]) == set(NULLS) and set(table.logits[table.kind == "plant"]) == set(
        PLANTS
    )
    assert set(table.logits[table.kind == "trained"]) == set(TRAINED)
    settings = set(zip(table.p, table.train_fraction, table.noise, strict=True))
    assert {(each.p, each.fraction, each.noise) for each in SETTINGS} <= settings
    assert (table.draws >= 300).all()
    assert ((table[list(VERDICTS)].sum(axis=1) - 1).abs() < 1e-9).all()
    assert (table[table.kind != "rule"].rule <= 0.01).all()
