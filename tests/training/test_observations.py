"""What training passes say of each example is written by epoch, and read as it was."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from interrupted import contents
from plugin_names import example_score
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, TrainingFailedError
from mechmem.training.observations import epoch_file
from mechmem.training.predicted import recorded_right

EXAMPLES, TRAINED, CLASSES = 40, 30, 4


@pytest.fixture
def task():
    """Training examples are spread over the ids, and every fifth has a wrong label."""
    draw = torch.Generator().manual_seed(0)
    inputs, true = torch.randn(EXAMPLES, 6, generator=draw), torch.arange(EXAMPLES) % CLASSES
    given = torch.where(torch.arange(EXAMPLES) % 5 == 0, (true + 1) % CLASSES, true)
    return mm.ArrayTask(inputs, given, true, torch.arange(EXAMPLES) % 4 != 3)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def expected(logits, labels):
    """Right, loss and margin of each row, one by one."""
    rows = []
    for row, label in zip(logits.detach().double().numpy(), labels.tolist(), strict=True):
        others = np.delete(row, label)
        rows.append((row.argmax() == label, np.log(np.exp(row).sum()) - row[label], row[label] - others.max()))
    return np.array(rows, dtype=float).T


def trained(task, out, epochs=3, *, lr=0.5, labels=True, **settings):
    """A user's own loop over shuffled minibatches; also what each pass said of each example."""
    model, draw = network(), torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    recorder = mm.Recorder(model, task, steps=epochs * 4, out=out, evaluations=2, **{"checkpoints": 2, **settings})
    recorder(0)
    step, said = 0, np.full((epochs, 3, TRAINED), np.nan)
    for epoch in range(epochs):
        for places in torch.randperm(TRAINED, generator=draw).split(8):
            inputs, given = task.batch(task.train_ids[places])
            logits = model(inputs)
            recorder.observe(task.train_ids[places], logits, given if labels else None)
            said[epoch][:, places] = expected(logits, given)
            optimizer.zero_grad()
            F.cross_entropy(logits, given).backward()
            optimizer.step()
            logits.detach().zero_()  # a loop may overwrite its logits
            step += 1
            recorder(step)
        recorder.end_epoch(step)
    recorder.finish(step, "steps")
    return model, recorder, said


def opened(path, task):
    return mm.load(path, model=network(), task=task)


@pytest.mark.parametrize("labels", [True, False])
def test_every_training_pass_is_kept_as_it_was(labels, task, tmp_path):
    _, _, said = trained(task, tmp_path / "run", labels=labels)
    found = opened(tmp_path / "run", task).run.observations()
    assert torch.equal(found.ids, task.train_ids) and found.step.tolist() == [4, 8, 12]
    assert (found.count == 1).all()
    assert np.array_equal(found.right.numpy(), said[:, 0])
    assert np.allclose(found.loss.numpy(), said[:, 1], rtol=1e-3, atol=1e-6)
    assert np.allclose(found.margin.numpy(), said[:, 2], rtol=1e-3, atol=1e-6)
    frame = found.to_frame()
    assert list(frame) == ["epoch", "step", "id", "count", "right", "loss", "margin"]
    row = frame[(frame["epoch"] == 2) & (frame["id"] == int(task.train_ids[5]))].iloc[0]
    assert row["step"] == 8 and row["loss"] == pytest.approx(said[1, 1, 5], rel=1e-3)


def test_logits_that_are_held_longer_are_worked_out_alike(task, tmp_path, monkeypatch):
    trained(task, tmp_path / "together")
    monkeypatch.setattr("mechmem.training.observer.HELD", 1)
    trained(task, tmp_path / "each")
    first, second = (opened(tmp_path / name, task).run.observations() for name in ("together", "each"))
    assert torch.equal(first.loss, second.loss) and torch.equal(first.margin, second.margin)


def test_observing_does_not_change_what_is_observed(task, tmp_path):
    model, _, _ = trained(task, tmp_path / "run")
    plain, draw = network(), torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.5)
    for _ in range(3):
        for places in torch.randperm(TRAINED, generator=draw).split(8):
            inputs, given = task.batch(task.train_ids[places])
            optimizer.zero_grad()
            F.cross_entropy(plain(inputs), given).backward()
            optimizer.step()
    for one, two in zip(model.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_an_example_may_be_seen_twice_or_not_at_all(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    one, two, three = task.train_ids[:3].tolist()
    logits = torch.tensor([[0.0, 1, 2, 3], [3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 5]])
    given = task.given(task.train_ids)
    recorder.observe([one, two, one], logits[:3])
    recorder.end_epoch(3)
    recorder.observe([three], logits[3:])
    recorder.end_epoch(5)
    recorder.checkpoint(5)
    found = opened(tmp_path / "run", task).run.observations()
    assert found.count[:, :4].tolist() == [[2, 1, 0, 0], [0, 0, 1, 0]]
    right, loss, margin = expected(logits[[0, 2]], given[[0, 0]])
    assert found.right[0, 0] == right.mean()
    assert found.loss[0, 0].item() == pytest.approx(loss.mean(), rel=1e-3)
    assert found.margin[0, 0].item() == pytest.approx(margin.mean(), rel=1e-3)
    for values in (found.right, found.loss, found.margin):
        assert torch.equal(values.isnan(), found.count == 0)


def test_scores_use_every_epoch(task, tmp_path):
    trained(task, tmp_path / "run", epochs=6)
    subject = opened(tmp_path / "run", task)
    found = subject.run.observations()
    right, loss = found.right.numpy() > 0.5, found.loss.double().numpy()
    events = (right[:-1] & ~right[1:]).sum(0).astype(float)
    events[~right.any(0)] = np.inf
    forgotten = example_score("forgetting_events")(subject)
    assert forgotten.values.tolist() == events.tolist()
    assert forgotten.note == "counted over 6 epochs, in training mode"
    speed = example_score("learning_speed")(subject)
    wrong_last = [np.flatnonzero(~column) for column in right.T]
    first = [0 if not len(each) else each[-1] + 1 for each in wrong_last]
    assert speed.values.tolist() == [4.0 * (each + 1) if each < 6 else np.inf for each in first]
    assert speed.note.startswith("at 6 epochs, in training mode")
    assert np.allclose(example_score("aum")(subject).values, found.margin.double().numpy().mean(0))
    assert np.allclose(example_score("confidence")(subject).values, np.exp(-loss).mean(0))
    assert np.allclose(example_score("variability")(subject).values, np.exp(-loss).std(0))
    order = mm.analyse(subject, "fitting_order")
    assert order.step.tolist() == found.step.tolist()


def test_an_epoch_that_did_not_see_an_example_changes_nothing_of_it(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    given = task.given(task.train_ids)
    for place, sign in ((0, 1), (1, 1), (0, -1), (0, 1)):
        logits = 5 * sign * F.one_hot(given[[place]], CLASSES).float()
        recorder.observe(task.train_ids[[place]], logits)
        recorder.end_epoch(1)
    recorder.checkpoint(1)
    predicted = recorded_right(opened(tmp_path / "run", task), task.train_ids[:2], "test")
    assert predicted.right.T.tolist() == [[True, True, False, True], [False, True, True, True]]


def test_scores_of_examples_that_were_never_seen_are_refused(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    recorder.observe(task.train_ids[:20], torch.zeros(20, CLASSES).uniform_())
    recorder.end_epoch(1)
    recorder.checkpoint(1)
    with pytest.raises(MissingNeedError, match=rf"10 of 30 were not .the first is example {task.train_ids[20]}"):
        example_score("aum")(opened(tmp_path / "run", task))


def test_a_run_that_was_not_observed_says_so(tiny_run):
    assert not tiny_run.run.observed
    with pytest.raises(MissingNeedError, match="not observed"):
        tiny_run.run.observations()
    with pytest.raises(MissingNeedError, match="'aum' needs"):
        example_score("aum")(tiny_run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids, logits, given: (ids, logits, (given + 1) % CLASSES), "the task that it is"),
        (lambda ids, logits, given: (ids + 3, logits, None), "must be training examples"),
        (lambda ids, logits, given: (ids[:-1], logits, None), "must return logits of shape"),
        (lambda ids, logits, given: (ids, logits[:, :-1], None), "must return logits of shape"),
        (lambda ids, logits, given: (ids, logits, given[:-1]), "labels must be one per example"),
        (lambda ids, logits, given: (ids, logits.softmax(1), None), "returns probabilities"),
        (lambda ids, logits, given: (ids.float(), logits, None), "must be at least one example id"),
    ],
)
def test_what_is_not_the_task_s_is_refused_at_the_first_batch(change, said, task, tmp_path, unchecked_shapes):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    ids = task.train_ids[:8]
    inputs, given = task.batch(ids)
    with pytest.raises(ConfigError, match=said):
        recorder.observe(*change(ids, network()(inputs), given))


def test_probabilities_in_small_batches_are_refused_at_the_end_of_an_epoch(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    for ids in task.train_ids.split(3):
        recorder.observe(ids, network()(task.batch(ids)[0]).softmax(1))
    with pytest.raises(ConfigError, match="returns probabilities"):
        recorder.end_epoch(1)


def test_log_probabilities_are_logits(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    recorder.observe(task.train_ids, network()(task.batch(task.train_ids)[0]).log_softmax(1))
    recorder.end_epoch(1)


def test_the_label_that_differs_is_named_with_its_example(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    ids = task.train_ids
    inputs, given = task.batch(ids)
    changed = given.clone()
    changed[7] = (given[7] + 2) % CLASSES
    words = rf"label of example {ids[7]} is {changed[7]}, the task that it is {given[7]}: .*pass ids="
    with pytest.raises(ConfigError, match=words):
        recorder.observe(ids, network()(inputs), changed)


def test_labels_that_change_later_are_noticed_too(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    inputs, given = task.batch(task.train_ids)
    for labels in (given, given.flip(0)):
        recorder.observe(task.train_ids, network()(inputs), labels)
    with pytest.raises(ConfigError, match="the task that it is"):
        recorder.end_epoch(1)


@pytest.mark.parametrize("lost", [torch.nan, torch.inf])
def test_the_example_whose_logit_is_lost_is_named(lost, task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    logits = torch.zeros(TRAINED, CLASSES).uniform_()
    recorder.observe(task.train_ids, logits)
    logits[4, 2] = lost
    recorder.observe(task.train_ids, logits)
    with pytest.raises(TrainingFailedError, match=f"example {task.train_ids[4]} is NaN or infinite"):
        recorder.end_epoch(1)


def test_an_epoch_without_a_pass_is_no_epoch(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="no example was observed"):
        recorder.end_epoch(1)


def test_an_epoch_that_was_lost_or_changed_is_noticed(task, tmp_path):
    trained(task, tmp_path / "run")
    run = opened(tmp_path / "run", task).run
    last = epoch_file(run.path, 3)
    whole = last.read_bytes()
    for spoil, said in (
        (last.unlink, "has lost the observations of epoch 3"),
        (lambda: last.write_bytes(epoch_file(run.path, 2).read_bytes()), "not of epoch 3 of this run"),
        (lambda: last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1])), "does not match its hash"),
    ):
        spoil()
        with pytest.raises(RunDirectoryError, match=said):
            run.observations()
    last.write_bytes(whole)
    run.observations()


def test_an_epoch_of_another_run_is_refused(task, tmp_path):
    trained(task, tmp_path / "run")
    _, recorder, _ = trained(task, tmp_path / "other", roles=mm.Roles(hidden=("1",)))
    os.replace(epoch_file(recorder.path, 2), epoch_file(tmp_path / "run", 2))
    with pytest.raises(RunDirectoryError, match="not of epoch 2 of this run"):
        opened(tmp_path / "run", task).run.observations()


def test_a_directory_with_observations_is_a_run(task, tmp_path):
    recorder = mm.Recorder(network(), task, steps=9, out=tmp_path / "run")
    recorder.observe(task.train_ids, torch.zeros(TRAINED, CLASSES).uniform_())
    recorder.end_epoch(1)
    del recorder
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        mm.Recorder(network(), task, steps=9, out=tmp_path / "run")


def test_a_run_goes_on_from_where_its_network_was_saved(task, tmp_path):
    trained(task, tmp_path / "whole")
    trained(task, tmp_path / "run")
    model = network()
    recorder = mm.Recorder(model, task, steps=12, out=tmp_path / "run", resume=8, evaluations=2, checkpoints=2)
    assert [row["step"] for row in recorder.rows] == [0, 1]
    assert recorder.run().checkpoint_steps() == [0, 1] and recorder.run().finished() is None
    before = recorder.run().observations()
    assert before.step.tolist() == [4, 8]
    recorder.observe(task.train_ids, torch.ones(TRAINED, CLASSES).uniform_())
    recorder.end_epoch(12)
    recorder(12)
    recorder.finish(12, "steps")
    after = opened(tmp_path / "run", task).run.observations()
    assert after.step.tolist() == [4, 8, 12] and torch.equal(after.loss[:2], before.loss)
    whole = opened(tmp_path / "whole", task).run.observations()
    assert torch.equal(whole.loss[:2], after.loss[:2]) and not torch.equal(whole.loss[2], after.loss[2])


def test_a_run_to_go_on_with_must_be_this_loop_s(task, tmp_path, tiny_config):
    trained(task, tmp_path / "run")
    other = mm.ArrayTask(task.inputs + 1, task.given(task.ids), None, torch.arange(EXAMPLES) % 4 != 3)
    with pytest.raises(RunDirectoryError, match="recorded on another task"):
        mm.Recorder(network(), other, steps=12, out=tmp_path / "run", resume=8)
    subject = mm.train(tiny_config, out=tmp_path / "trained", progress=False)
    before = contents(tmp_path / "trained")
    with pytest.raises(RunDirectoryError, match=r"holds a run of mm\.train"):
        mm.Recorder(subject.model, subject.task, steps=12, out=tmp_path / "trained", resume=8)
    assert contents(tmp_path / "trained") == before
    for out, said in ((tmp_path / "new", "holds no run to go on with"), (None, "the run in out, which was left out")):
        with pytest.raises(RunDirectoryError, match=said):
            mm.Recorder(network(), task, steps=12, out=out, resume=8)
    assert not (tmp_path / "new").exists()
    assert mm.Recorder(network(), task, steps=12, out=tmp_path / "new", resume=0).rows == []


def test_a_run_goes_on_with_its_own_network_only(task, tmp_path):
    model, recorder, _ = trained(task, tmp_path / "run", checkpoints=[0, 8, 12])
    before, settings = contents(tmp_path / "run"), {"steps": 12, "out": tmp_path / "run", "checkpoints": [0, 8, 12]}
    last = model.state_dict()
    with pytest.raises(RunDirectoryError, match=r"another network: at step 8 it saved other weights .*step=8\)"):
        mm.Recorder(network(), task, resume=8, **settings)
    wide = nn.Sequential(nn.Linear(6, 99), nn.ReLU(), nn.Linear(99, CLASSES))
    for step in (7, 8):  # there is no checkpoint of step 7
        with pytest.raises(RunDirectoryError, match="a network of another shape"):
            mm.Recorder(wide, task, resume=step, **settings)
    assert contents(tmp_path / "run") == before
    saved = mm.load(tmp_path / "run", model=network(), task=task, step=8).model
    mm.Recorder(saved, task, resume=8, **settings).close()
    assert mm.load(tmp_path / "run", model=network(), task=task).run.checkpoint_steps() == [0, 8]
    changed = network()
    changed.load_state_dict(last)
    mm.Recorder(changed, task, resume=7, **settings)  # it may have been saved elsewhere


def test_an_example_takes_five_bytes_an_epoch(tmp_path):
    count = 4000
    labels = torch.arange(count + 2) % CLASSES
    task = mm.ArrayTask(torch.arange(float(count + 2))[:, None], labels, labels, torch.arange(count + 2) < count)
    recorder = mm.Recorder(nn.Linear(1, CLASSES), task, steps=1, out=tmp_path / "run")
    recorder.observe(task.train_ids, torch.zeros(count, CLASSES).uniform_())
    recorder.end_epoch(1)
    assert epoch_file(recorder.path, 1).stat().st_size < 5 * count
    assert json.loads((recorder.path / "config.json").read_text())["examples"] == count + 2
    assert isinstance(recorder.run().observations().to_frame(), pd.DataFrame)
