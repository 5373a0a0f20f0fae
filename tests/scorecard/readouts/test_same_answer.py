"""The readout that pools the logits of cells that share an answer."""

import pytest
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.scorecard.controls import LogitTable
from mechmem.scorecard.readouts import same_answer


def subject(op="add", p=29, kappa=0.6, effects=5.0, dtype=torch.float32, **noise):
    """Logits that hold the rule at a correlation of κ with each cell, below large effects of a and of b."""
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, **noise))
    draw = torch.Generator().manual_seed(0)
    rule = torch.nn.functional.one_hot(task.true(task.ids), p) * p**0.5
    logits = kappa * rule + (1 - kappa**2) ** 0.5 * torch.randn(p * p, p, generator=draw)
    rows, columns = effects * torch.randn(2, p, p, generator=draw)
    a, b = task.operands.T
    logits = (logits + rows[a] + columns[b]).to(dtype)
    return mm.Subject(LogitTable(logits, task), task)


def accuracy(network, name="same_answer"):
    task = network.task
    return float((mm.extractor(name)(network)(task.ids).argmax(1) == task.true(task.ids)).double().mean())


@pytest.mark.parametrize("op", ["add", "subtract"])
def test_the_rule_is_read_below_the_effects_of_the_operands(op):
    network = subject(op)
    assert accuracy(network, "raw") < 0.2 and accuracy(network) > 0.97
    assert accuracy(subject(op, kappa=0.0)) < 3 / 29


def test_multiplication_keeps_its_factors_of_0():
    network = subject("multiply", kappa=0.7)
    assert accuracy(network) > 0.85
    assert mm.extractor("same_answer")(network)(network.task.ids).isfinite().all()


def test_rounding_is_not_taken_for_a_rule():
    network = subject(kappa=1.0, effects=0.0)
    a, b = network.task.operands.T
    for dtype in (torch.float32, torch.float64):
        parts = torch.randn(2, 29, 29, generator=torch.Generator().manual_seed(1), dtype=dtype)
        additive = mm.Subject(LogitTable(1e4 * (parts[0][a] + parts[1][b]), network.task), network.task)
        assert not mm.extractor("same_answer")(additive)(network.task.ids).any()


def test_it_finds_the_rule_in_the_labels_too_and_the_scorecard_shows_that():
    network = subject(p=31, noise=mm.LabelNoise(0.3), train_fraction=0.9)
    logits = network.model.logits
    card = mm.audit_logits(logits, network.task, ["same_answer", "same_answer(rank=3)"])
    row = card.row("same_answer")
    assert row.knows == ("pairs", "test_inputs")
    assert row.splits["test"].estimate.value > 0.95 and row.controls["label_grid"].estimate.value > 0.9
    assert card.row("same_answer(rank=3)").splits["test"].estimate.value < 0.9


def test_a_part_of_the_cells_is_enough():
    p = 23
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    answers = (pairs[:, 0] - pairs[:, 1]) % p
    kept = torch.rand(p * p, generator=torch.Generator().manual_seed(2)) < 0.7
    draw = torch.Generator().manual_seed(0)
    logits = 4 * torch.nn.functional.one_hot(answers, p) + torch.randn(p * p, p, generator=draw)
    train = torch.arange(int(kept.sum())) % 2 == 0
    task = mm.ArrayTask(pairs[kept].float(), answers[kept], answers[kept], train, operands=pairs[kept])
    assert accuracy(mm.Subject(LogitTable(logits[kept], task), task)) > 0.97


def test_too_many_symbols_are_refused_before_anything_is_computed(monkeypatch):
    network = subject()
    monkeypatch.setattr(same_answer, "MOST_ENTRIES", 29**3 - 1)
    with pytest.raises(MissingNeedError, match="29 symbols and 29 classes make 24,389"):
        mm.extractor("same_answer")(network)
