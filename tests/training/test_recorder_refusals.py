"""What a recorder refuses, and that what it has recorded can be read afterwards."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, RoleError, RunDirectoryError, TrainingFailedError

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 4
TASK = mm.ArrayTask(X, Y, Y, torch.arange(40) < 30)
IDS = TASK.train_ids


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4))


def recorder(path, **settings):
    return mm.Recorder(network(), TASK, steps=9, out=path, **{"evaluations": [9], "checkpoints": [9], **settings})


def logits(rows=30):
    return torch.zeros(rows, 4).uniform_(generator=torch.Generator().manual_seed(1))


def ended_epoch(made, step):
    made.observe(IDS, logits())
    made.end_epoch(step)


WAYS = {
    "evaluated": lambda made, step: made.evaluate(step),
    "saved": lambda made, step: made.checkpoint(step),
    "ended an epoch": ended_epoch,
    "called": lambda made, step: made(step),
    "finished": lambda made, step: made.finish(step, "early"),
}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(list(WAYS)[:3], WAYS)))
def test_steps_are_recorded_in_order(first, second, tmp_path):
    made = recorder(tmp_path / "run")
    WAYS[first](made, 5)
    with pytest.raises(ConfigError, match="step 3 comes after step 5; steps are recorded in order"):
        WAYS[second](made, 3)
    ended_epoch(made, 9)
    made.finish(9, "steps")
    run = mm.load(tmp_path / "run", model=network(), task=TASK).run
    assert run.observations().step.tolist()[-1] == run.checkpoint_steps()[-1] == 9


@pytest.mark.parametrize("way", [*WAYS, "observed"])
def test_nothing_is_recorded_after_the_end(way, tmp_path):
    made = recorder(tmp_path / "run", evaluations=[1, 5])
    made(1)
    made.finish(3, "early")
    with pytest.raises(ConfigError, match="the run has ended"):
        (WAYS | {"observed": lambda made, step: made.observe(IDS, logits())})[way](made, 5)
    run = mm.load(tmp_path / "run", model=network(), task=TASK).run
    assert run.history()["step"].tolist() == [1] and run.checkpoint_steps() == [3]


@pytest.mark.parametrize("end", [lambda made: made.finish(9, "steps"), lambda made: made.close()])
def test_a_recorder_that_has_ended_leaves_its_directory_to_others(end, tmp_path):
    made = recorder(tmp_path / "run", evaluations=[0], checkpoints=[0])
    made(0)
    with pytest.raises(RunDirectoryError, match="another process"):
        recorder(tmp_path / "run", resume=0)
    end(made)
    with pytest.raises(ConfigError, match="the run has ended"):
        made(9)
    recorder(tmp_path / "run", resume=0).finish(9, "steps")


@pytest.mark.parametrize(("evaluations", "calls"), [([], (0, 3)), ([0, 9], ()), (3, ())])
def test_a_finished_run_has_an_evaluation(evaluations, calls, tmp_path):
    made = recorder(tmp_path / "run", evaluations=evaluations)
    for step in calls:
        made(step)
    with pytest.raises(ConfigError, match="reason must say why"):
        made.finish(3, "")
    made.finish(3, "early")
    assert mm.load(tmp_path / "run", model=network(), task=TASK).run.history()["step"].tolist() == [3]


@pytest.mark.parametrize("name", ["evaluations", "checkpoints"])
def test_a_generator_gives_its_steps_once(name, tmp_path):
    steps = (step for step in (0, 9))
    recorder(tmp_path / "first", **{name: steps})
    with pytest.raises(ConfigError, match=f"{name} must be steps, got a generator that yields none"):
        recorder(tmp_path / "second", **{name: steps})
    assert not (tmp_path / "second").exists()


class Named(nn.Linear):
    def forward(self, inputs):
        return {"logits": super().forward(inputs)}


@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        (nn.Linear(2, 4), ConfigError, "does not run on the task's inputs"),
        (nn.Linear(3, 5), ConfigError, "must return logits of shape"),
        (nn.Linear(3, 4).double(), ConfigError, "float"),
        (Named(3, 4), RoleError, "logits"),
    ],
)
def test_a_network_that_cannot_be_evaluated_is_refused_before_anything_is_written(model, error, said, tmp_path):
    with pytest.raises((error, ConfigError), match=said):
        mm.Recorder(model, TASK, steps=3, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())
    mm.Recorder(model, TASK, steps=3, out=tmp_path / "observed", evaluations=[])


def test_the_trial_of_a_network_changes_nothing(tmp_path):
    model = network().train()
    before = torch.get_rng_state()
    mm.Recorder(model, TASK, steps=3, out=tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state()) and all(each.training for each in model.modules())


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_a_loop_may_use_its_buffers_again(kind, tmp_path):
    made = recorder(tmp_path / "run")
    ids, labels = kind([0] * 10), torch.zeros(10, dtype=torch.long)
    for start in (0, 10, 20):
        ids[:] = kind(IDS[start : start + 10].tolist())
        labels.copy_(Y[IDS[start : start + 10]])
        made.observe(ids, logits(10), labels)
    made.end_epoch(3)
    assert (made.run().observations().count == 1).all()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda ids, said, labels: (ids, said, 0 * labels), ConfigError, "the task that it is"),
        (lambda ids, said, labels: (ids + 20, said, labels), ConfigError, "must be training examples"),
        (lambda ids, said, labels: (ids, said / 0, labels), TrainingFailedError, "NaN or infinite"),
        (lambda ids, said, labels: (ids, said, labels + 0.9), ConfigError, "labels must be whole numbers, but that of"),
        (lambda ids, said, labels: (ids, said, labels * torch.nan), ConfigError, "labels must be whole numbers"),
    ],
)
def test_only_the_batch_that_is_refused_is_not_counted(change, error, said, tmp_path):
    batches = [(IDS[start : start + 10], logits(10), Y[start : start + 10]) for start in (0, 10, 20)]
    whole, made = recorder(tmp_path / "whole"), recorder(tmp_path / "run")
    for batch in batches:
        whole.observe(*batch)
    for batch in (batches[0], change(*batches[1]), batches[2]):
        made.observe(*batch)
    with pytest.raises(error, match=said):
        made.end_epoch(1)
    made.observe(*batches[1])
    for each in (whole, made):
        each.end_epoch(1)
    first, second = (each.run().observations() for each in (whole, made))
    assert torch.equal(first.count, second.count) and torch.equal(first.loss, second.loss)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int32, torch.uint8])
def test_labels_may_be_whole_numbers_of_any_type(kind, tmp_path):
    made = recorder(tmp_path / "run")
    made.observe(IDS, logits(), Y[IDS].to(kind))
    made.end_epoch(1)
    with pytest.raises(ConfigError, match="the task that it is"):
        made.observe(IDS, logits(), (Y[IDS] + 1).to(kind))
        made.end_epoch(2)
