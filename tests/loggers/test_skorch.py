"""Trainings of skorch's networks are recorded example by example."""

import contextlib
import pickle

import pytest
import sklearn.base
import skorch
import torch
from recorded_trainings import Network, check_observed, hooks_on, planted_task
from skorch import NeuralNetClassifier

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError

pytestmark = pytest.mark.filterwarnings("ignore")


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Network().layers

    def forward(self, inputs):
        return self.layers(inputs)


@pytest.fixture(scope="module")
def task():
    return planted_task()


def fitted(task, callback, data=None, module=Layers, **settings):
    given = {"lr": 0.0, "max_epochs": 3, "batch_size": 7, "iterator_train__shuffle": True, "train_split": None}
    given |= {"criterion": torch.nn.CrossEntropyLoss, "verbose": 0, "callbacks": [callback] if callback else []}
    net = NeuralNetClassifier(module, **(given | settings))
    inputs, labels = data or task.batch(task.train_ids)
    net.fit(inputs.numpy(), labels.numpy())
    return net


def logits_of(task):
    return Layers()(task.batch(task.train_ids)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_every_pass_is_recorded(workers, task, tmp_path):
    callback = mm.SkorchCallback(task, out=tmp_path / "run")
    net = fitted(task, callback, iterator_train__num_workers=workers)
    subject = mm.load(tmp_path / "run", model=Layers(), task=task)
    check_observed(subject.run.observations(), logits_of(task), task, epochs=3)
    assert subject.run.observations().step.tolist() == [6, 12, 18]
    assert hooks_on(net.module_) == 0 and net.iterator_train is torch.utils.data.DataLoader
    sklearn.base.clone(net)


def test_examples_that_are_held_out_are_not_seen(task, tmp_path):
    callback = mm.SkorchCallback(task, out=tmp_path / "run")
    split = NeuralNetClassifier(Layers).train_split
    fitted(task, callback, train_split=split)
    found = mm.load(tmp_path / "run", model=Layers(), task=task).run.observations()
    assert found.count.sum(1).tolist() == [32, 32, 32]
    check_observed(found, logits_of(task), task, epochs=3, seen=found.count.numpy())


def test_recording_changes_nothing_of_the_training(task, tmp_path):
    weights = []
    for callback in (None, mm.SkorchCallback(task, out=tmp_path / "run", evaluations=5)):
        torch.manual_seed(7)
        weights.append(fitted(task, callback, lr=0.5).module_.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    assert len(mm.load(tmp_path / "run", model=Layers(), task=task).run.rows()) == 6


def test_an_interrupted_training_is_a_run(task, tmp_path):
    class Interrupted(Layers):
        passes = 0

        def forward(self, inputs):
            type(self).passes += self.training
            if self.training and self.passes == 9:
                raise KeyboardInterrupt
            return super().forward(inputs)

    net = fitted(task, mm.SkorchCallback(task, out=tmp_path / "run"), module=Interrupted)
    run = mm.load(tmp_path / "run", model=Layers(), task=task).run
    assert run.finished() == {"step": 8, "reason": "stopped"}
    assert run.observations().count.sum(1).tolist() == [40, 14] and hooks_on(net.module_) == 0


def test_a_training_that_raises_leaves_nothing_behind(task, tmp_path):
    class Broken(Layers):
        def forward(self, inputs):
            if self.training:
                raise ZeroDivisionError
            return super().forward(inputs)

    nets = []

    class Kept(Broken):
        def __init__(self):
            super().__init__()
            nets.append(self)

    try:
        fitted(task, mm.SkorchCallback(task, out=tmp_path / "run"), module=Kept)
    except ZeroDivisionError:
        pass
    assert len(nets) == 1 and hooks_on(nets[0]) == 0


def test_what_cannot_be_measured_is_refused(task, tmp_path):
    class Probabilities(Layers):
        def forward(self, inputs):
            return super().forward(inputs).softmax(1)

    with pytest.raises(ConfigError, match="returns probabilities"):
        fitted(task, mm.SkorchCallback(task, out=tmp_path / "run"), module=Probabilities)
    fitted(task, mm.SkorchCallback(task, out=tmp_path / "run"))
    inputs, labels = task.batch(task.train_ids)
    with pytest.raises(ConfigError, match="the task that it is"):
        fitted(task, mm.SkorchCallback(task), (inputs.flip(0), labels.flip(0)))
    callback = mm.SkorchCallback(task, ids=task.train_ids.flip(0))
    fitted(task, callback, (inputs.flip(0), labels.flip(0)))
    found = mm.load(callback.path, model=Layers(), task=task).run.observations()
    check_observed(found, logits_of(task), task, epochs=3)


def test_a_network_is_pickled_with_its_callback_before_in_and_after_a_training(task, tmp_path):
    kept = []

    class Kept(skorch.callbacks.Callback):
        def on_epoch_end(self, net, **others):
            kept.append(pickle.dumps(net.callbacks[0]))

    callback = mm.SkorchCallback(task, out=tmp_path / "run")
    before = pickle.dumps(callback)
    net = fitted(task, callback, callbacks=[callback, Kept()], max_epochs=2)
    for held in (before, kept[0], kept[-1], pickle.dumps(callback)):
        copied = pickle.loads(held)
        assert copied.path == (None if held is before else callback.path)
        copied.out = None
        assert len(fitted(task, copied, max_epochs=1).history) == 1 and copied.path != callback.path
    assert hooks_on(net.module_) == 0 and mm.load(callback.path, model=Layers(), task=task).run.observed


def test_the_run_of_a_training_that_raised_is_nobody_s_but_there(task, tmp_path):
    class Broken(Layers):
        def forward(self, inputs):
            if self.training:
                raise ZeroDivisionError
            return super().forward(inputs)

    callback = mm.SkorchCallback(task, out=tmp_path / "run")
    with contextlib.suppress(ZeroDivisionError):
        fitted(task, callback, module=Broken)
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        fitted(task, callback)


def test_what_no_training_allows_is_refused(task):
    with pytest.raises(ConfigError, match="the training has no step: set its number"):
        fitted(task, mm.SkorchCallback(task), max_epochs=0)
    for name, number in (("evaluations", -1), ("checkpoints", 0)):
        with pytest.raises(ConfigError, match=f"{name} must be a whole number of at least 1"):
            mm.SkorchCallback(task, **{name: number})
