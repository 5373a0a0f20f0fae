import errno
import json
import os
import weakref

import numpy as np
import pytest
import torch
from interrupted import contents
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, RunDirectoryError, TrainingFailedError, UnknownNameError
from mechmem.training.header import write_header


class Own(nn.Module):
    """A network of the user's: an embedding, BatchNorm, dropout."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 6)
        self.norm = nn.BatchNorm1d(12)
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(12, 5)

    def forward(self, pairs):
        return self.out(self.dropout(torch.relu(self.norm(self.embed(pairs).flatten(1)))))


@pytest.fixture
def task():
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    true = pairs.sum(1) % 5
    given = torch.where(torch.arange(25) % 6 == 0, (true + 1) % 5, true)
    return mm.ArrayTask(pairs, given, true, torch.arange(25) % 4 != 0)


def record(task, out, **settings):
    """A user's own loop, as in the docstring."""
    torch.manual_seed(0)
    model = Own()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    recorder = mm.Recorder(model, task, steps=20, out=out, **settings)
    rows = [recorder(0)]
    inputs, given = task.batch(task.train_ids)
    for step in range(1, 21):
        model.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), given).backward()
        optimizer.step()
        rows.append(recorder(step))
    return model, recorder, rows


def test_a_loop_of_the_user_s_own_is_recorded(task, tmp_path):
    model, recorder, rows = record(task, tmp_path / "mine", evaluations=[0, 5, 20], checkpoints=[5, 20])
    assert [step for step, row in enumerate(rows) if row is not None] == [0, 5, 20]
    subject = mm.load(tmp_path / "mine", model=Own(), task=task, roles=mm.Roles(hidden=("norm",)))
    assert subject.run.history()["step"].tolist() == [0, 5, 20]
    assert subject.run.checkpoint_steps() == [5, 20]
    assert subject.retrainer is None and subject.roles.hidden == ("norm",)
    for (name, saved), now in zip(subject.model.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(saved, now), name
    model.eval()
    prediction = model(task.batch(task.ids)[0]).argmax(1)
    given_bits, true_bits = subject.run.correctness()
    assert np.array_equal(given_bits[-1], (prediction == task.given(task.ids)).numpy())
    assert np.array_equal(true_bits[-1], (prediction == task.true(task.ids)).numpy())
    assert rows[20]["test"] == pytest.approx(true_bits[-1][task.test_ids].mean())
    assert len(recorder.run().rows()) == 3


def test_watching_does_not_change_what_is_watched(task, tmp_path):
    watched, _, _ = record(task, tmp_path / "often", evaluations=20, checkpoints=20)
    unwatched, _, _ = record(task, tmp_path / "never", evaluations=[], checkpoints=[])
    for one, two in zip(watched.state_dict().values(), unwatched.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    assert watched.training


def test_schedules_by_number_are_log_spaced(task, tmp_path):
    _, recorder, _ = record(task, tmp_path / "run", evaluations=3, checkpoints=2)
    assert sorted(recorder.evaluate_at) == [0, 1, 4, 20] and sorted(recorder.checkpoint_at) == [0, 1, 20]


def test_a_checkpoint_that_the_user_asked_for_stays(task, tmp_path):
    model = Own()
    recorder = mm.Recorder(model, task, steps=20, out=tmp_path / "run", checkpoints=[0, 20])
    recorder(0)
    recorder.checkpoint(7)
    recorder(20)
    assert recorder.run().checkpoint_steps() == [0, 7, 20]


def test_a_model_can_be_taken_back_to_any_step(task, tmp_path):
    _, recorder, _ = record(task, tmp_path / "run", checkpoints=[0, 10, 20])
    fresh = Own()
    before = fresh.out.weight.detach().clone()
    early = mm.load(tmp_path / "run", model=fresh, task=task, step=0)
    late = mm.load(tmp_path / "run", model=fresh, task=task)
    assert not torch.equal(early.model.out.weight, late.model.out.weight)
    assert torch.equal(fresh.out.weight, before)
    torch.manual_seed(0)
    assert torch.equal(Own().out.weight, early.model.out.weight)


def test_model_and_task_must_be_passed_and_fit(task, tmp_path):
    record(task, tmp_path / "run")
    for given in ({}, {"model": Own()}, {"task": task}):
        with pytest.raises(MissingNeedError, match="pass its model= and task="):
            mm.load(tmp_path / "run", **given)
    with pytest.raises(RunDirectoryError, match="recorded on another task"):
        mm.load(tmp_path / "run", model=Own(), task=mm.ModularTask(mm.ModularConfig(p=5)))
    with pytest.raises(RunDirectoryError, match="network of another shape"):
        mm.load(tmp_path / "run", model=nn.Linear(2, 5), task=task)

    class Doubled(Own):  # of the same shape, with the same answers
        def forward(self, pairs):
            return 2 * super().forward(pairs)

    with pytest.raises(RunDirectoryError, match="computes something else: at step 20 .* logits that differ"):
        mm.load(tmp_path / "run", model=Doubled(), task=task)


def test_a_directory_is_used_once(task, tmp_path, tiny_config):
    record(task, tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="another training loop"):
        mm.train(tiny_config, out=tmp_path / "run", progress=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").write_text("x")
    with pytest.raises(RunDirectoryError, match="holds something else"):
        mm.Recorder(Own(), task, steps=3, out=tmp_path / "other")


@pytest.mark.parametrize("lost", [(), ("history.bits",), ("history.jsonl", "history.bits")])
def test_a_directory_whose_loop_was_killed_before_it_recorded_anything_may_be_used(lost, task, tmp_path):
    mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")
    for name in lost:
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / ".history.bits.0123abcd").write_bytes(b"x")
    record(task, tmp_path / "run")
    record(task, tmp_path / "undisturbed")
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    assert not list((tmp_path / "run").glob(".history*"))


def test_one_evaluation_or_checkpoint_is_a_run(task, tmp_path, tiny_config):
    mm.Recorder(Own(), task, steps=3, out=tmp_path / "evaluated").evaluate(0)
    mm.Recorder(Own(), task, steps=3, out=tmp_path / "saved").checkpoint(0)
    write_header(tmp_path / "trained", tiny_config, task, mm.Roles())
    for name in ("evaluated", "saved", "trained"):
        with pytest.raises(RunDirectoryError, match="already holds a run"):
            mm.Recorder(Own(), task, steps=3, out=tmp_path / name)


def test_an_empty_directory_may_be_used(task, tmp_path):
    (tmp_path / "run").mkdir()
    mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")(0)


def test_without_a_directory_it_goes_with_its_run(task):
    _, recorder, _ = record(task, None)
    run, path = recorder.run(), recorder.path
    del recorder
    assert len(run.rows()) > 3
    del run
    import gc

    gc.collect()
    assert not path.exists()


def test_a_recorder_refuses_what_it_would_get_wrong(task, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'cross_entropy'"):
        mm.Recorder(Own(), task, steps=20, loss="crossentropy")
    with pytest.raises(ConfigError, match="steps must be"):
        mm.Recorder(Own(), task, steps=0)
    recorder = mm.Recorder(Own(), task, steps=20, evaluations=[0, 5, 10])
    recorder(5)
    with pytest.raises(ConfigError, match="steps are recorded in order"):
        recorder(5)


def test_a_run_opens_with_the_roles_that_were_recorded(task, tmp_path):
    embedding = mm.Role("embed.weight", "p neuron -> operand p neuron", {"operand": 2})
    roles = mm.Roles(embedding, mm.Role("out.weight", "classes neuron -> neuron classes"), hidden=("norm",))
    record(task, tmp_path / "run", roles=roles)
    assert mm.load(tmp_path / "run", model=Own(), task=task).roles == roles
    others = mm.Roles(hidden=("dropout",))
    assert mm.load(tmp_path / "run", model=Own(), task=task, roles=others).roles == others
    header = json.loads((tmp_path / "run" / "config.json").read_text())
    del header["hash"], header["roles"]["fields"]["output"]
    header["roles"]["fields"]["hidden"] = {"$record": "Nonsense", "fields": {}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(header))
    with pytest.raises(RunDirectoryError, match="damaged roles: unknown record 'Nonsense'"):
        mm.load(tmp_path / "run", model=Own(), task=task)


def test_a_loop_s_directory_is_its_own_while_it_has_a_recorder(task, tmp_path):
    model = Own()
    recorder = mm.Recorder(model, task, steps=3, out=tmp_path / "run")
    with pytest.raises(RunDirectoryError, match="another process"):
        mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")
    recorder(0)
    del recorder
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["append", "write_checkpoint", "flush"])
def test_a_full_disk_is_said_with_its_step(name, task, tmp_path, monkeypatch):
    recorder = mm.Recorder(Own(), task, steps=3, out=tmp_path / "run")
    recorder(0)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(TrainingFailedError, match="at step 3.*No space left"):
        patch.setattr(mm.training.recorder, name, full)
        recorder(3)
    assert len(mm.load(tmp_path / "run", model=Own(), task=task).run.rows()) >= 1


def test_a_directory_that_was_moved_is_left_to_whoever_writes_there_now(task, tmp_path):
    place = tmp_path / "run"
    first = mm.Recorder(Own().eval(), task, steps=9, out=place)
    first(0)
    place.rename(tmp_path / "moved")
    for write in (lambda: first(1), lambda: first.checkpoint(2), lambda: first.finish(9, "steps")):
        with pytest.raises(TrainingFailedError, match="moved|No such file"):
            write()
    assert not place.exists()
    second = mm.Recorder(Own().eval(), task, steps=9, out=place)
    second(0)
    before = contents(place)
    for write in (lambda: first(1), lambda: first.checkpoint(2), lambda: first.finish(9, "steps")):
        with pytest.raises(TrainingFailedError, match="was moved or replaced"):
            write()
    assert contents(place) == before


def test_steps_may_be_numpy_s(task, tmp_path):
    recorder = mm.Recorder(Own().eval(), task, steps=np.int64(4), out=tmp_path / "run")
    for step in np.arange(5):
        recorder(step)
    recorder.checkpoint(np.int64(4))
    recorder.finish(np.int64(4), "steps")
    assert mm.load(tmp_path / "run", model=Own(), task=task).run.history()["step"].tolist() == [0, 1, 2, 3, 4]


def test_a_change_of_the_working_directory_does_not_move_a_run(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subject = mm.train(tiny_config, out="run", progress=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(subject.run.history()) and subject.retrainer.twin("one_step") is not None
    assert not list((tmp_path / "elsewhere").iterdir()) and (tmp_path / "run" / "twins").exists()
    (tmp_path / "run").rename(tmp_path / "moved")
    with pytest.raises(RunDirectoryError, match="was moved or removed"):
        subject.retrainer.twin("noise_only")
    assert not (tmp_path / "run").exists()


def test_a_path_is_not_expanded_without_a_word(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("~/run", "~", "~somebody/run"):
        with pytest.raises(RunDirectoryError, match="expanduser"):
            mm.train(tiny_config, out=path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_delete_its_parent_s_temporary_run(tiny_config):
    subject = mm.train(tiny_config, progress=False)
    child = os.fork()
    if child == 0:
        subject.run._owner.__dict__.clear()
        weakref.finalize._exitfunc()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(subject.run.history())


def test_a_run_that_is_ended_early_has_its_last_state(task, tmp_path):
    recorder = mm.Recorder(Own().eval(), task, steps=20, out=tmp_path / "run", evaluations=[0, 20], checkpoints=[20])
    recorder(0)
    recorder.finish(7, "early")
    assert mm.load(tmp_path / "run", model=Own(), task=task).run.checkpoint_steps() == [7]
