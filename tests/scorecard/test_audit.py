"""The scorecard end to end, on networks whose answer is known."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.core.needs import KNOWLEDGE
from mechmem.core.stats import Estimate
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.networks.build import build_model
from mechmem.scorecard.audit import DEFAULT_EXTRACTORS, split_accuracies
from mechmem.scorecard.controls import NETWORK_CONTROLS
from mechmem.scorecard.pooling import pool
from mechmem.scorecard.rows import Cell
from mechmem.scorecard.scorecard import CONTROL_TITLES
from mechmem.tasks.config import SPLITS


@pytest.fixture(scope="module")
def planted():
    return mm.planted_network(13, memorized_fraction=0.3, train_fraction=0.6)


@pytest.fixture(scope="module")
def card(planted):
    return mm.audit(planted.subject)


def value(card, extractor, column):
    row = card.row(extractor)
    cell = row.splits.get(column) or row.controls[column]
    return None if cell.estimate is None else cell.estimate.value


def test_a_planted_network_reads_as_planted(card):
    assert [value(card, "raw", split) for split in SPLITS] == [1, 1, 0, 1]
    # A memorizing neuron has no frequency of its own; one of its memories filtered to a cosine is noise, not a memory.
    assert value(card, "frequency", "test") == 1 and value(card, "frequency", "train_noisy") < 0.3
    assert value(card, "additive_free", "test") == 1
    assert value(card, "frequency_rest", "train_noisy") > 0.5
    assert card.verdict == "rule" and "computes the rule" in card.sentence


def test_cells_with_a_factor_of_zero_are_scored_apart():
    subject = mm.planted_network(7, op="multiply", memorized_fraction=0.3, train_fraction=0.5).subject
    card = mm.audit(subject)
    task = subject.task
    nonzero = (task.operands[task.test_ids] > 0).all(1)
    for row in card.rows:
        assert row.splits["test_in_group"].estimate.n == int(nonzero.sum()) < len(task.test_ids)
    predicted = mm.extractor("diagonal")(subject)(task.test_ids).argmax(1)
    right = (predicted == task.true(task.test_ids))[nonzero].double().mean()
    assert value(card, "diagonal", "test_in_group") == pytest.approx(float(right))
    assert card.to_json()["rows"][0]["test_in_group"] == 1 and "nonzero" in card._repr_html_()


def test_missing_twins_say_why_and_the_sentence_says_uncontrolled(card):
    cell = card.row("raw").controls["noise_only"]
    assert cell.estimate is None and "noise_only=" in cell.reason
    assert set(card.uncontrolled) == {"untrained", "one_step", "noise_only"}
    assert "uncontrolled: no untrained, one-step, noise-only twin" in card.sentence


def test_twins_passed_by_hand_fill_their_columns(planted):
    blank = planted.subject.copy_model()
    nn.init.normal_(blank.W_in, generator=torch.Generator().manual_seed(0))
    card = mm.audit(planted.subject, ["raw", "frequency"], untrained=blank, one_step=blank, noise_only=blank)
    assert card.uncontrolled == [] and "uncontrolled" not in card.sentence
    assert value(card, "raw", "untrained") < 0.4


def test_a_trained_run_has_every_control(tiny_run):
    card = mm.audit(tiny_run)
    assert [row.extractor for row in card.rows] == list(DEFAULT_EXTRACTORS)
    for row in card.rows:
        names = {"untrained", "one_step", "noise_only"}
        chooses = any(part in row.extractor for part in ("frequency", "shared"))
        names |= {"random_choice"} if chooses else {"label_grid", "kernel_ridge"}
        assert set(row.controls) == names
        assert all(cell.estimate is not None for cell in row.controls.values()), row


def test_json_has_the_promised_shape(card):
    data = json.loads(json.dumps(card.to_json(), allow_nan=False))
    assert data["structure"]["verdict"] == "rule" and set(data["structure"]) >= {"S", "kappa", "Z", "heldout_vote"}
    assert 0 <= data["label_vote"]["test"] <= 1
    for row in data["rows"]:
        assert set(row["knows"]) <= set(KNOWLEDGE)
        assert row["n_test"] == len(mm.planted_network(13, train_fraction=0.6).subject.task.test_ids)
        assert {*SPLITS, "untrained_test", "one_step_test", "noise_only_test"} <= set(row)


def test_every_accuracy_has_n_and_an_interval(card):
    frame = card.intervals().dropna(subset=["value"])
    assert (frame["n"] > 0).all() and (frame["low"] <= frame["value"]).all() and (frame["value"] <= frame["high"]).all()


def test_an_empty_split_reads_null_not_zero():
    card = mm.audit(mm.planted_network(7, train_fraction=0.6).subject)
    cell = card.row("raw").splits["train_noisy"]
    assert cell.estimate is None and "no training label is wrong" in cell.reason
    assert card.to_frame()["train_noisy"].isna().all()


def test_logits_alone_can_be_audited(planted):
    subject = planted.subject
    logits = subject.model(subject.task.operands).detach()
    flat = mm.audit_logits(logits.numpy(), subject.task)
    grid = mm.audit_logits(logits.reshape(13, 13, 13), subject.task)
    assert flat.to_json() == grid.to_json()
    assert [row.extractor for row in flat.rows] == ["raw", "additive_free", "energy_ranked", "diagonal"]
    assert value(flat, "raw", "train_noisy") == 1 and flat.verdict == "rule"
    with pytest.raises(ConfigError, match="one row per id"):
        mm.audit_logits(logits[:-1], subject.task)
    with pytest.raises(ConfigError, match="NaN"):
        mm.audit_logits(logits * torch.nan, subject.task)


class OneHotMLP(nn.Module):
    """Somebody else's network: one-hot inputs, torch's own layers, no hook points."""

    def __init__(self, p, width):
        super().__init__()
        self.p = p
        self.layers = nn.Sequential(nn.Linear(2 * p, width, bias=False), nn.ReLU(), nn.Linear(width, p))

    def forward(self, pairs):
        return self.layers(nn.functional.one_hot(pairs, self.p).flatten(1).float())


@pytest.mark.slow
def test_a_network_of_the_users_own(planted):
    """The planted weights in somebody else's module read the same as in ours."""
    subject, p = planted.subject, 13
    own = OneHotMLP(p, subject.model.W_out.shape[0])
    with torch.no_grad():
        own.layers[0].weight.copy_(subject.model.W_in.T)
        own.layers[2].weight.copy_(subject.model.W_out.T)
        own.layers[2].bias.zero_()
    own.layers[1] = subject.copy_model().activation
    task = subject.task
    train = torch.zeros(p * p, dtype=torch.bool)
    train[task.train_ids] = True
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), task.true(task.ids), train, operation="add")
    roles = mm.Roles(
        input_embedding=mm.Role("layers.0.weight", "neuron (operand p) -> operand p neuron", {"operand": 2}),
        readout=mm.Role("layers.2.weight", "classes neuron -> neuron classes"),
        bias=mm.Role("layers.2.bias", "classes -> classes"),
        activation="layers.1",
    )
    mine, theirs = mm.audit(mm.Subject(own, arrays, roles)), mm.audit(subject)
    for ours, original in zip(mine.rows, theirs.rows, strict=True):
        assert ours.splits == original.splits, ours.extractor


def test_a_missing_role_is_an_empty_row_with_its_reason(planted):
    bare = mm.Subject(planted.subject.model, planted.subject.task)
    cell = mm.audit(bare).row("frequency").splits["test"]
    assert cell.estimate is None and "role:input_embedding" in cell.reason


def test_unknown_truth_reads_null():
    task = mm.planted_network(7, memorized_fraction=0.3, train_fraction=0.6).subject.task
    train = torch.zeros(49, dtype=torch.bool)
    train[task.train_ids] = True
    truth = task.true(task.ids).clone()
    truth[task.train_ids[0]] = -1
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), truth, train, operation="add")
    cells = split_accuracies(lambda ids: torch.eye(7)[task.true(ids)], arrays)
    assert cells["train_clean"].estimate is None and "not known" in cells["train_clean"].reason
    assert cells["test"].estimate.value == 1


def test_the_sentence_says_what_its_vote_was_told(card, planted):
    assert "given the operation" in card.sentence
    task = planted.subject.task
    train = torch.zeros(169, dtype=torch.bool)
    train[task.train_ids] = True
    truth = task.true(task.ids).clone()
    truth[task.train_ids] = -1
    hidden = mm.ArrayTask(task.operands, task.given(task.ids), truth, train, operation="add")
    sentence = mm.audit(mm.Subject(planted.subject.model, hidden, planted.subject.roles)).sentence
    assert "given the group" in sentence and "given the operation" not in sentence


def test_the_training_set_is_asked_for_as_a_whole(planted):
    asked = []

    def predictor(ids):
        asked.append(ids)
        return torch.zeros(len(ids), 13)

    task = planted.subject.task
    split_accuracies(predictor, task)
    assert sorted(map(len, asked)) == sorted([len(task.train_ids), len(task.test_ids)])


@pytest.mark.slow
def test_runs_are_pooled():
    subjects = [mm.planted_network(7, memorized_fraction=0.3, train_fraction=0.5, seed=s).subject for s in range(3)]
    cards = [mm.audit(subject) for subject in subjects]
    pooled = mm.audit(subjects)
    values = [value(card, "frequency", "test") for card in cards]
    estimate = pooled.row("frequency").splits["test"].estimate
    assert estimate.n == 3 and estimate.value == pytest.approx(sum(values) / 3)
    assert len(pooled.verdicts) == 3 and pooled.to_json()
    with pytest.raises(ConfigError, match="different extractors"):
        pool([cards[0], mm.audit(subjects[1], ["raw"])])


def test_scorecards_survive_saving(card, tmp_path):
    card.save(tmp_path / "card.safetensors")
    loaded = mm.Scorecard.load(tmp_path / "card.safetensors")
    assert loaded.to_json() == card.to_json() and loaded.intervals().equals(card.intervals())


def test_compare_sets_networks_side_by_side(card, planted):
    other = mm.audit(mm.Subject(planted.subject.model, planted.subject.task, planted.subject.roles, name="other"))
    comparison = mm.compare([card, other])
    assert set(comparison.to_frame()["name"]) == {card.name, "other"}
    marks = {trace.name: trace.marker.symbol for trace in comparison.plot().data}
    assert {card.name, "other"} <= set(marks) and not any("open" in (symbol or "") for symbol in marks.values())
    with pytest.raises(ConfigError, match="different names"):
        mm.compare([card, card])


def test_a_misspelt_extractor_names_the_nearest(planted):
    with pytest.raises(UnknownNameError, match="Did you mean 'frequency'"):
        mm.audit(planted.subject, ["frequncy"])


def test_the_audited_network_is_left_as_it_was(planted):
    before = {name: tensor.clone() for name, tensor in planted.subject.model.state_dict().items()}
    mm.audit(planted.subject)
    assert all(torch.equal(before[name], tensor) for name, tensor in planted.subject.model.state_dict().items())


def test_html_shows_reasons_and_titles(card):
    html = card._repr_html_()
    assert "noise_only=" in html and all(CONTROL_TITLES[name] in html for name in ("untrained", "kernel_ridge"))


def test_a_network_that_has_changed_is_read_again(planted):
    subject = mm.Subject(planted.subject.copy_model(), planted.subject.task, planted.subject.roles)
    assert value(mm.audit(subject, ["raw"]), "raw", "test") == 1
    with subject.model.hooks(fwd_hooks=[("hook_hidden", lambda hidden, hook: hidden * 0)]):
        assert value(mm.audit(subject, ["raw"]), "raw", "test") < 0.3
    assert value(mm.audit(subject, ["raw"]), "raw", "test") == 1
    with torch.no_grad():
        subject.model.W_out.zero_()
    assert value(mm.audit(subject, ["raw"]), "raw", "test") < 0.3


def test_a_network_of_nan_has_no_accuracy(planted):
    model = planted.subject.copy_model()
    with torch.no_grad():
        model.W_out[0, 0] = torch.nan
    card = mm.audit(mm.Subject(model, planted.subject.task, planted.subject.roles))
    assert value(card, "raw", "test") is None and "not finite" in card.row("raw").splits["test"].reason
    assert card.verdict == "refused"


def test_a_grid_of_logits_is_read_in_the_task_s_own_order(planted):
    task = planted.subject.task
    order = torch.randperm(169, generator=torch.Generator().manual_seed(0))
    train = torch.zeros(169, dtype=torch.bool)
    train[task.train_ids] = True
    pairs, true = task.operands[order], task.true(task.ids)[order]
    shuffled = mm.ArrayTask(pairs, task.given(task.ids)[order], true, train[order], operation="add")
    grid = torch.eye(13)[task.true(task.ids)].reshape(13, 13, 13)
    assert value(mm.audit_logits(grid, shuffled), "raw", "test") == 1


def test_a_readout_that_needs_the_whole_grid_is_an_empty_row_without_it(planted):
    task = planted.subject.task
    train = torch.zeros(169, dtype=torch.bool)
    train[task.train_ids] = True
    part = slice(0, 160)
    arrays = mm.ArrayTask(
        task.operands[part], task.given(task.ids)[part], task.true(task.ids)[part], train[part], operation="add"
    )
    card = mm.audit(mm.Subject(planted.subject.model, arrays, planted.subject.roles))
    assert "every pair" in card.row("diagonal").splits["test"].reason
    assert value(card, "frequency", "test") > 0.9


def test_a_run_stopped_by_test_accuracy_says_so(tmp_path):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.3), model=mm.MLPConfig(width=8), steps=20, stop_when="test >= 0"
    )
    card = mm.audit(mm.train(config, progress=False))
    assert "stopped by test accuracy" in card.sentence
    assert card.task["stopped_by"] == "test >= 0"


def test_pooled_runs_that_differ_are_mixed(card):
    other = mm.audit_logits(torch.ones(169, 13), mm.planted_network(13, train_fraction=0.6).subject.task, ["raw"])
    pooled = pool([mm.audit(mm.planted_network(13, train_fraction=0.6).subject, ["raw"]), other])
    assert pooled.verdict == "mixed" == pooled.to_json()["structure"]["verdict"]
    assert "1 compute the rule" in pooled.sentence and "1 show nothing" in pooled.sentence
    estimate = pooled.row("raw").splits["test"].estimate
    assert 0 <= estimate.low and estimate.high <= 1 and pooled.to_json()["rows"][0]["n_test"] > 2


def test_one_extractor_is_named_by_itself(planted):
    one = mm.audit(planted.subject, "frequency+quadratic")
    assert [row.extractor for row in one.rows] == ["frequency+quadratic"]
    subject = planted.subject
    logits = subject.model(subject.task.batch(subject.task.ids)[0]).detach()
    assert [row.extractor for row in mm.audit_logits(logits, subject.task, "raw").rows] == ["raw"]
    again = dataclasses.replace(subject, model=subject.copy_model())
    with torch.no_grad():
        again.model.W_out += 1e-4
    assert [row.extractor for row in mm.audit([subject, again], "raw").rows] == ["raw"]


def test_what_cannot_be_audited_is_refused_in_a_line(planted):
    subject = planted.subject
    with pytest.raises(ConfigError, match="subject must be an mm.Subject"):
        mm.audit(subject.model)
    with pytest.raises(ConfigError, match="untrained must be a network .*got a Subject"):
        mm.audit(subject, untrained=subject)
    with pytest.raises(ConfigError, match=r"must return logits of shape .*, but returned"):
        mm.audit(mm.Subject(OneHotMLP(13, 4).layers[0:0], subject.task))
    with pytest.raises(ConfigError, match="cards must be a list of Scorecards"):
        mm.compare([subject])


def test_activations_refuse_ids_that_are_none(planted):
    for ids in (torch.tensor([-1]), torch.tensor([10**6])):
        with pytest.raises(UnknownNameError, match="no example id"):
            mm.activations(planted.subject, "hook_hidden", ids=ids)
    with pytest.raises(ConfigError, match="ids must be"):
        mm.activations(planted.subject, "hook_hidden", ids=torch.tensor([], dtype=torch.long))


def images(noise):
    """Digits in three classes that pixels tell apart, with labels that a linear network fits."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 3
    pixels = torch.randint(0, 60, (120, 1, 5, 5), generator=draw) + 60 * labels[:, None, None, None]
    data = mm.ImageData(pixels.to(torch.uint8), labels, 3, 0)
    task = mm.ImageTask(mm.ImageConfig("planted", train=80, noise=mm.LabelNoise(noise)), data)
    model = build_model(mm.ImageMLPConfig((8, 8)), task, 0)
    return mm.Subject(model, task, model.roles, name="planted")


def test_every_layer_of_a_network_on_images_is_read_beside_its_inputs():
    subject = images(0.2)
    card = mm.audit(subject, untrained=build_model(mm.ImageMLPConfig((8, 8)), subject.task, 1))
    assert [row.extractor for row in card.rows] == ["raw", "masc@hidden.0", "masc@hidden.1"]
    for row in card.rows[1:]:
        assert row.controls["inputs"] == mm.audit(subject, "masc@inputs").rows[0].splits["test"]
    assert card.verdict == "refused" and "the most that is read out is" in card.sentence
    assert "uncontrolled: no one-step, noise-only twin" in card.sentence


@pytest.mark.parametrize(("low", "said"), [(0.9, "more than on every control"), (0.55, "no more than on a control")])
def test_what_is_read_is_set_beside_the_highest_control(low, said):
    card = mm.audit(images(0.2), ["masc@hidden.0"])
    row = card.rows[0]
    own, control = Cell(Estimate(0.95, low, 1.0, 40)), Cell(Estimate(0.5, 0.4, 0.6, 40))
    row = dataclasses.replace(row, splits={**row.splits, "test": own}, controls={"untrained": control})
    sentence = dataclasses.replace(card, rows=(row,)).sentence
    assert f"95.0% (masc@hidden.0), {said} (untrained 50.0%)" in sentence


def test_a_printed_card_is_the_table_and_the_finding(tiny_run):
    card = mm.audit(tiny_run, ["raw", "additive_free"])
    lines = str(card).splitlines()
    assert lines[0] == "tiny, accuracy in %; right of test: test accuracy on controls"
    (raw,) = [line for line in lines if line.startswith("raw  ")]
    value = card.row("raw").splits["train_clean"].estimate.value
    assert raw.split()[1] == f"{100 * value:.1f}".removesuffix(".0" if value in (0, 1) else " ")
    assert " ".join(card.sentence.split()) in " ".join(str(card).split())
    assert repr(card) == f"Scorecard('tiny', extractors raw, additive_free, verdict {card.verdict!r})"


def test_a_scorecard_for_a_paper(planted):
    card = mm.audit(planted.subject, ["raw", "additive_free"])
    table = card.to_latex(label="tab:card")
    assert r"\toprule" in table and r"\label{tab:card}" in table and r"additive\_free & " in table
    assert table.count(r"\\") >= 3 and r"100\%" in table and "%" not in table.replace(r"\%", "")
    assert card.sentence.split(":")[0].split(" (")[0] in table
    assert r"\caption{Mine \& yours}" in card.to_latex("Mine & yours")


def test_no_twin_is_trained_where_no_extractor_applies():
    subject = images(0.2)

    def train(task):
        pytest.fail("a twin was trained")

    card = mm.audit(subject, ["frequency"], train=train)
    row = card.rows[0]
    assert row.splits["test"].estimate is None
    assert {row.controls[name].reason for name in NETWORK_CONTROLS} == {"no extractor applies to the network"}


def test_a_frame_of_logits_whose_names_are_in_another_order_is_refused():
    true = torch.arange(60) % 3
    names = np.array(["ant", "bee", "cat"])[true]
    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    task = mm.ArrayTask(inputs, names, names, torch.arange(60) < 40)
    table = pd.DataFrame(torch.nn.functional.one_hot(true).double().numpy(), columns=["ant", "bee", "cat"])
    assert value(mm.audit_logits(table, task), "raw", "test") == 1
    with pytest.raises(
        ConfigError, match="logits have the classes of the task in another order: 'cat' stands where 'ant'"
    ):
        mm.audit_logits(table[["cat", "ant", "bee"]], task)
    with pytest.raises(
        ConfigError, match="logits have the examples of the task in another order: '1' stands where '0'"
    ):
        mm.audit_logits(table.iloc[[1, 0, *range(2, 60)]], task)
    plain = table.set_axis(["x", "y", "z"], axis=1).set_axis(range(100, 160))
    assert value(mm.audit_logits(plain, task), "raw", "test") == 1  # other names say nothing
