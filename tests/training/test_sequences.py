"""Training on whole sequences: what a step takes, and that runs resume and leave out as others do."""

import dataclasses

import pytest
import torch
from interrupted import contents, stop_at
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.models.networks.build import build_model
from mechmem.sweeps.cost import expected_seconds
from mechmem.training.loop import _Batches
from mechmem.training.optimizers import Optimizers

TASK = mm.GrammarConfig(vocabulary=7, order=1, length=10, train=10, test=6, repeats=(1, 3), passages=2, controls=3)
CONFIG = mm.TrainConfig(
    TASK,
    mm.CausalTransformerConfig(layers=1, d_model=8, heads=2, dropout=0.1),
    lr=0.01,
    batch_size=4,
    steps=20,
    evaluations=4,
    checkpoints=3,
)


class Killed(BaseException):
    """Stands for a kill."""


def steps_of(config, count):
    task = mm.GrammarTask(config.task)
    batches = _Batches(config, task, torch.device("cpu"))
    return task, [batches.at(step) for step in range(count)]


def test_an_epoch_shows_every_sequence_as_often_as_the_task_says():
    task, steps = steps_of(CONFIG, 5)  # 10 sequences, and 2 · (1 + 3) passages, 4 in a step
    assert [len(step.given) for step in steps] == [36, 36, 36, 36, 18]
    seen = torch.cat([step.ids for step in steps])
    counted = task.sequence_of(seen).bincount(minlength=len(task.tokens))
    assert torch.equal(counted, task.times * task.positions)
    for step in steps:
        rows = task.sequence_of(step.ids).reshape(-1, task.positions)
        assert (rows == rows[:, :1]).all()  # whole sequences, one after the other
        assert torch.equal(step.given, task.given(step.ids))


def test_without_a_batch_size_a_step_shows_everything_in_its_proportion():
    task, (step,) = steps_of(dataclasses.replace(CONFIG, batch_size=0), 1)
    counted = task.sequence_of(step.ids).bincount(minlength=len(task.tokens))
    assert torch.equal(counted, task.times * task.positions)


def test_what_is_left_out_is_in_no_step_and_all_else_in_its_place():
    task, steps = steps_of(CONFIG, 5)
    out = (*task.ids_of([0]).tolist(), int(task.ids_of([3])[2]))
    _, less = steps_of(dataclasses.replace(CONFIG, left_out=out), 5)
    for whole, part in zip(steps, less, strict=True):
        assert torch.equal(whole.ids[~torch.isin(whole.ids, torch.tensor(out))], part.ids)


def test_the_loss_is_the_mean_over_the_tokens_of_the_sequences():
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, dropout=0.0), optimizer="sgd", steps=1)
    trained = mm.train(config, progress=False).model
    task = mm.GrammarTask(config.task)
    model = build_model(config.model, task, config.seed)
    _, (step,) = steps_of(config, 1)
    rows = task.tokens[task.sequence_of(step.ids)[:: task.positions]]
    logits = model.unembedded(model._stream(rows[:, :-1]).flatten(0, 1))
    optimizer = torch.optim.SGD(model.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    nn.functional.cross_entropy(logits, rows[:, 1:].flatten()).backward()
    optimizer.step()
    for one, other in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("masks", [None, mm.ExampleTied(stream=False)])
def test_a_run_that_is_cut_off_and_resumed_is_the_same(masks, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, masks=masks))
    whole = mm.train(config, out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as cut:
        stop_at(cut, Optimizers, "step", 9, Killed())
        with pytest.raises(Killed):
            mm.train(config, out=tmp_path / "cut", progress=False)
    mm.train(config, out=tmp_path / "cut", progress=False)
    assert contents(tmp_path / "whole") == contents(tmp_path / "cut")
    again = mm.load(tmp_path / "cut")
    inputs = again.task.batch(again.task.ids)[0]
    with torch.no_grad():
        assert torch.equal(again.model(inputs), whole.model(inputs))
    assert type(again.task) is mm.GrammarTask and again.roles == whole.roles


def test_an_evaluation_is_of_every_prediction():
    run = mm.train(CONFIG, progress=False)
    last = run.run.history().iloc[-1]
    with torch.no_grad():
        logits = run.model(run.task.batch(run.task.test_ids)[0])
    assert last["test"] == pytest.approx(float((logits.argmax(1) == run.task.given(run.task.test_ids)).double().mean()))


def test_sequences_go_with_nothing_that_draws_examples_one_by_one():
    with pytest.raises(ConfigError, match="drawn by sequence"):
        mm.train_subsets(CONFIG, networks=2, progress=False)


@pytest.mark.slow
def test_what_each_sequence_stored_in_its_own_units_is_forgotten_without_them():
    task = mm.GrammarConfig(
        vocabulary=12, order=1, length=16, train=600, test=60, repeats=(8,), passages=6, controls=20, seed=5
    )
    model = mm.CausalTransformerConfig(layers=1, d_model=32, masks=mm.ExampleTied(stream=False))
    run = mm.train(mm.TrainConfig(task, model, lr=0.01, batch_size=33, steps=300, evaluations=2), progress=False)
    with mm.subnetwork(run, "own"):
        found = mm.sequence_edits(run, ["drop_memory"], prefix=6, group="passage").to_frame().set_index("edit")
    assert found.loc["raw", "memorized"] >= 5
    assert found.loc["drop_memory", "exact"] < 0.2
    # The grammar is kept: sequences never shown are predicted no worse.
    assert found.loc["drop_memory", "price_high"] < 0.05
    assert found.loc["drop_memory", "above_best"] < 0.6


def test_the_cost_of_a_run_is_that_of_its_tokens():
    (one, other) = (
        expected_seconds(
            {"": dataclasses.replace(CONFIG, task=dataclasses.replace(TASK, length=length))}, lambda _: 1.0
        )[""]
        for length in (10, 19)
    )
    fixed = CONFIG.steps * 5e7
    dropout = CONFIG.steps * 1500 * 8 * CONFIG.batch_size
    assert (other - 0.5 - fixed - dropout) / (one - 0.5 - fixed - dropout) == pytest.approx(2)
