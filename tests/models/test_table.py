import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.math.blocks import blocks
from mechmem.models.hooks.running import block_rows, evaluating
from mechmem.models.reading.forward import all_logits, logits_of
from mechmem.scorecard.controls import LogitTable


def array_task(inputs, n_classes=3):
    labels = torch.arange(len(inputs)) % n_classes
    return mm.ArrayTask(inputs, labels, labels, torch.arange(len(inputs)) < len(inputs) - 2, n_classes=n_classes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float64, torch.bfloat16])
def test_a_table_answers_its_inputs_in_any_order(dtype, draw):
    task = array_task((torch.randn(10, 2, 3, generator=draw) * 100).to(dtype))
    logits = torch.randn(10, 3, generator=draw, dtype=torch.float64)
    table = LogitTable(logits, task)
    ids = torch.tensor([7, 0, 7, 3])
    assert torch.equal(table(task.batch(ids)[0]), logits[ids])
    assert torch.equal(logits_of(table, task, task.ids), logits)
    logits.zero_()
    assert table(task.batch(ids)[0]).abs().sum() > 0


def test_tables_that_do_not_fit():
    task = array_task(torch.arange(8.0)[:, None])
    for shape in ((8, 4), (7, 3), (3, 8)):
        with pytest.raises(ConfigError, match=r"one row per id and one column per class, \(8, 3\), got"):
            LogitTable(torch.zeros(shape), task)
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="NaN or infinity"):
            LogitTable(torch.full((8, 3), bad), task)
    with pytest.raises(ConfigError, match="same input"):
        LogitTable(torch.zeros(8, 3), array_task(torch.zeros(8, 1)))


def test_blocks_cover_everything_once():
    for n in (0, 1, 9, 10, 11):
        covered = [i for block in blocks(n, 5) for i in range(n)[block]]
        assert covered == list(range(n))


def test_block_rows_stay_in_their_range():
    for width in (1, 64, 2048, 16384):
        rows = block_rows(torch.nn.Linear(width, 2))
        assert 256 <= rows <= 4096
        assert rows * width <= 2**22
    assert block_rows(torch.nn.Identity()) == 4096
    # Its matrices are tiny, and what it holds of an image is not.
    assert block_rows(torch.nn.Conv2d(3, 64, 3)) == 256


def test_logits_in_blocks_are_those_at_once(monkeypatch, planted):
    subject = planted.subject
    whole = subject.model(subject.task.batch(subject.task.ids)[0]).detach()
    monkeypatch.setattr("mechmem.models.hooks.running.block_rows", lambda model: 4)
    torch.testing.assert_close(logits_of(subject.model, subject.task, subject.task.ids), whole)
    none = logits_of(subject.model, subject.task, subject.task.ids[:0])
    assert none.shape == (0, 7)


def test_the_network_runs_once_per_subject(planted):
    subject = planted.subject.with_model(planted.subject.copy_model())
    calls = []
    subject.model.hook_logits.add_perma_hook(lambda value, hook: calls.append(1))
    first = all_logits(subject)
    n = len(calls)
    assert all_logits(subject) is first and len(calls) == n


def test_evaluating_gives_back_every_mode_after_an_error():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout()).train()
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
