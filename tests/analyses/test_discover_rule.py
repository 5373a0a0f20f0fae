"""Discovery of the rule: the group of a planted network is named, and nothing is found where there is none."""

import json
import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.discover_rule import DiscoveredRule, default_extractor
from mechmem.cli.main import main
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError
from mechmem.scorecard.controls import LogitTable
from mechmem.tasks.groups import FiniteGroup


@pytest.fixture(scope="module")
def found():
    return {
        op: mm.discover_rule(mm.planted_network(17, op=op, memorized_fraction=0.2, width=240, seed=1).subject)
        for op in ("add", "subtract", "multiply")
    }


@pytest.mark.parametrize(("op", "group"), [("add", "Z17"), ("subtract", "Z17"), ("multiply", "Z16")])
def test_the_group_of_a_planted_rule_is_named(found, op, group):
    rule = found[op]
    assert rule.group == group and rule.agreement.value == 1
    assert rule.contradicted.value == pytest.approx(0.2, abs=0.03)
    # A planted memory is two neurons with one direction, which they share: it passes, and only the votes remove it.
    assert rule.noise_left.value > 0.7 and rule.found.outvoted > 0
    product, place = FiniteGroup(group).product, rule.found
    inside = np.ix_(place.rows.numpy(), place.columns.numpy())
    wanted = product[place.row_place[place.rows][:, None], place.column_place[place.columns]]
    assert torch.equal(wanted, place.class_place[rule.table[inside]])


def test_it_says_which_labels_are_wrong(found):
    """The training labels that the rule contradicts are the wrong ones, though nobody said which they are."""
    task = mm.planted_network(17, memorized_fraction=0.2, width=240, seed=1).subject.task
    a, b = task.operands[task.rows(task.train_ids)].T
    assert torch.equal(found["add"].suspects[a, b], task.noisy)


def test_the_sentence_says_what_was_found(found):
    sentence = found["multiply"].sentence
    assert sentence.startswith("Told nothing, shared_subspaces+quadratic+additive_free writes down the cyclic group of")
    assert "(1 row, 1 column, 1 class set apart)" in sentence and "of the training labels" in sentence
    assert "held-out pairs" in sentence and f"{found['multiply'].found.outvoted} of its 256 cells were" in sentence


def test_random_weights_hold_no_rule():
    task = mm.ModularConfig(p=17, noise=mm.LabelNoise(0.3))
    config = mm.TrainConfig(task, mm.MLPConfig(width=240), steps=1, evaluations=1)
    rule = mm.discover_rule(mm.train(config, progress=False))
    assert rule.group is None and rule.found.kind == "none" and rule.agreement is None
    assert "reads no rule" in rule.sentence and rule.to_json()["quadrangle"] < 0.3
    assert rule.plot().data and len(rule.to_frame()) == 17**2


def test_a_told_extractor_says_what_it_was_told():
    subject = mm.planted_network(7, width=60).subject
    sentence = mm.discover_rule(subject, "frequency+quadratic").sentence
    assert sentence.startswith("Told input_group, output_group, slopes, frequency+quadratic")


def test_a_table_of_logits_without_a_rule_is_a_quasigroup():
    """x ∘ y in the Steiner quasigroup of order 7: Latin, and no group's isotope."""
    lines = [(0, 1, 2), (0, 3, 4), (0, 5, 6), (1, 3, 5), (1, 4, 6), (2, 3, 6), (2, 4, 5)]
    table = torch.arange(7).diag()
    for x, y, z in lines:
        for a, b, c in ((x, y, z), (y, z, x), (z, x, y)):
            table[a, b] = table[b, a] = c
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7))
    labels = table[pairs[:, 0], pairs[:, 1]]
    task = mm.ArrayTask(pairs, labels, labels, torch.arange(49) % 4 > 0)
    subject = mm.Subject(LogitTable(torch.eye(7)[labels], task), task)
    rule = mm.discover_rule(subject, "raw")
    assert rule.found.kind == "quasigroup" and rule.group is None
    assert "a quasigroup that is no group's isotope" in rule.sentence and rule.plot().data


class Sums(torch.nn.Module):
    """A network that adds mod 5, with given logits at 0 + 0."""

    def __init__(self, at_zero=(1.0, 0.0, 0.0, 0.0, 0.0)):
        super().__init__()
        self.at_zero = torch.tensor(at_zero)

    def forward(self, pairs):
        return torch.where(pairs.any(1)[:, None], torch.eye(5)[pairs.sum(1) % 5], self.at_zero)


def repeated(copies, wrong):
    """Sums of which some are in the training set twice, and some of these with a wrong label."""
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    pairs = torch.cat([pairs, pairs[:copies]])
    given = pairs.sum(1) % 5
    given[len(pairs) - wrong :] += 1
    return mm.ArrayTask(pairs, given % 5, pairs.sum(1) % 5, torch.arange(len(pairs)) != 24)


def test_a_pair_with_two_labels_counts_with_both():
    rule = mm.discover_rule(mm.Subject(Sums(), repeated(copies=10, wrong=4)), "raw")
    assert rule.group == "Z5" and rule.noise_left.value == 0 and rule.noise_left.n == 4
    assert rule.contradicted.value == pytest.approx(4 / 34) and rule.contradicted.n == 34
    assert int((rule.given < 0).sum()) == 1 + 4 and not rule.suspects.any()


def test_logits_that_are_not_finite_are_no_answers():
    task = repeated(copies=0, wrong=0)
    with pytest.raises(NotFiniteError, match="logits of raw are NaN or infinite in 1 of 25"):
        mm.discover_rule(mm.Subject(Sums([math.nan] * 5), task), "raw")
    with pytest.raises(ConfigError, match="seed"):
        mm.discover_rule(mm.Subject(Sums(), task), "raw", seed=-1)


def test_frame_json_and_file(found, tmp_path):
    rule = found["multiply"]
    frame = rule.to_frame()
    assert len(frame) == 17**2 and frame["in_square"].sum() == 256
    assert frame.loc[(frame.a == 3) & (frame.b == 5), "rule"].item() == 15
    values = json.loads(json.dumps(rule.to_json()))
    assert {"group", "order", "latin", "quadrangle", "noise_left", "agreement", "sentence"} <= set(values)
    assert values["group"] == "Z16" and values["order"] == 16 and math.isclose(values["agreement"]["value"], 1)
    rule.save(tmp_path / "rule.safetensors")
    back = DiscoveredRule.load(tmp_path / "rule.safetensors")
    assert back.sentence == rule.sentence and torch.equal(back.table, rule.table)
    assert back.found.orders == rule.found.orders
    titles = [each.text for each in rule.plot().layout.annotations]
    assert titles[-1] == "the rule, in the order of Z16" and len(titles) == 3


def test_what_has_no_table_is_refused(tiny_images):
    with pytest.raises(MissingNeedError, match="pairs"):
        mm.discover_rule(tiny_images)
    with pytest.raises(UnknownNameError, match="Did you mean"):
        mm.discover_rule(mm.planted_network(5, width=40).subject, "shared_subspace")


def test_a_network_without_readable_weights_is_read_by_its_logits(tiny_images):
    assert default_extractor(mm.planted_network(5, width=40).subject) == "shared_subspaces+quadratic+additive_free"
    assert default_extractor(tiny_images) == "same_answer"


@pytest.fixture(scope="module")
def tiny_images():
    labels = torch.arange(12) % 3
    task = mm.ArrayTask(torch.randn(12, 4), labels, labels, torch.arange(12) < 8)
    return mm.Subject(torch.nn.Linear(4, 3), task)


def test_the_command_prints_and_writes(tmp_path, capsys):
    options = ["train", "--p", "5", "--width", "40", "--steps", "5", "--quiet", "--out", str(tmp_path / "run")]
    assert main(options) == 0
    assert main(["discover", str(tmp_path / "run"), "--out", str(tmp_path / "rule.html")]) == 0
    shown = capsys.readouterr().out
    assert "Told nothing" in shown and "quadrangles that agree" in shown
    assert "plotly" in (tmp_path / "rule.html").read_text(encoding="utf-8")
    assert main(["discover", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["extractor"] == "shared_subspaces+quadratic+additive_free"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "rule.txt"], "--out must end in .svg"),
        (["--extractor", "addtive_free"], "Did you mean 'additive_free'"),
        (["--step", "99"], "99"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(tmp_path, options, message, capsys):
    assert main(["train", "--p", "5", "--width", "40", "--steps", "5", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert main(["discover", str(tmp_path / "run"), *options]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
