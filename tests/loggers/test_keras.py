"""Trainings of Keras models on torch are recorded example by example."""

import gc
import pickle

import pytest
import torch
from recorded_trainings import CLASSES, FEATURES, Rows, check_observed, planted_task
from torch.utils.data import DataLoader

import mechmem as mm
from mechmem.errors import ConfigError
from mechmem.loggers.keras import keras

# Importing it takes longer than training.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def task():
    return planted_task()


def network(*, answers="logits"):
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Input((FEATURES,)),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dense(CLASSES, name="logits", activation=None if answers == "logits" else "softmax"),
    ]
    return keras.Sequential(layers, name="network")


def loader(task, **settings):
    return DataLoader(settings.pop("data", None) or Rows(task), **({"batch_size": 7, "shuffle": True} | settings))


def fitted(callback, data, *, lr=0.0, epochs=3, answers="logits", **settings):
    model = network(answers=answers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=answers == "logits")
    model.compile(optimizer=keras.optimizers.SGD(lr), loss=loss)
    callbacks = [] if callback is None else [callback]
    model.fit(data, epochs=epochs, verbose=0, callbacks=callbacks, **settings)
    return model


def logits_of(task):
    return network()(task.batch(task.train_ids)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_every_pass_is_recorded(workers, task, tmp_path):
    data = loader(task, num_workers=workers)
    inner = data.batch_sampler
    callback = mm.KerasCallback(task, data, out=tmp_path / "run")
    model = fitted(callback, data, validation_data=loader(task))
    subject = mm.load(tmp_path / "run", model=mm.KerasNetwork(network()), task=task)
    check_observed(subject.run.observations(), logits_of(task), task, epochs=3)
    assert subject.run.observations().step.tolist() == [6, 12, 18]
    assert data.batch_sampler is inner and "compute_loss" not in vars(model)
    assert pickle.loads(pickle.dumps(callback.watch_)).run.path == callback.path
    assert torch.equal(subject.model(task.inputs), model(task.inputs))


def test_recording_changes_nothing_of_the_training(task, tmp_path):
    weights = []
    for out in (None, tmp_path / "run"):
        data = loader(task)
        callback = None if out is None else mm.KerasCallback(task, data, out=out, evaluations=5)
        torch.manual_seed(7)
        weights.append(fitted(callback, data, lr=0.5).get_weights())
    for one, two in zip(*weights, strict=True):
        assert (one == two).all()
    assert len(mm.load(tmp_path / "run", model=mm.KerasNetwork(network()), task=task).run.rows()) == 6


def test_a_training_goes_on_with_its_run(task, tmp_path):
    data = loader(task)
    fitted(mm.KerasCallback(task, data, out=tmp_path / "run"), data)
    before = mm.load(tmp_path / "run", model=mm.KerasNetwork(network()), task=task).run.observations()
    fitted(mm.KerasCallback(task, data, out=tmp_path / "run"), data, epochs=4, initial_epoch=2)
    after = mm.load(tmp_path / "run", model=mm.KerasNetwork(network()), task=task).run.observations()
    assert after.step.tolist() == [6, 12, 18, 24] and torch.equal(after.loss[:2], before.loss[:2])


def test_a_training_that_raises_leaves_nothing_behind(task):
    class Broken(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise ZeroDivisionError

    data, models = loader(task), []

    class Kept(mm.KerasCallback):
        def on_train_begin(self, logs=None):
            models.append(self.model)
            super().on_train_begin(logs)

    model = network()
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    try:
        model.fit(data, verbose=0, callbacks=[Kept(task, data), Broken()])
    except ZeroDivisionError:
        pass
    gc.collect()  # of Keras's own circles
    assert models == [model] and "compute_loss" not in vars(model)


def test_what_cannot_be_measured_is_refused(task, tmp_path):
    data = loader(task)
    inputs, labels = task.batch(task.train_ids)
    model = network()
    model.compile(optimizer="sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ConfigError, match="pass to fit the torch DataLoader"):
        model.fit(inputs, labels, verbose=0, callbacks=[mm.KerasCallback(task, data, out=tmp_path / "run")])
    model.fit(data, verbose=0, callbacks=[mm.KerasCallback(task, data, out=tmp_path / "run")])
    with pytest.raises(ConfigError, match="returns probabilities"):
        fitted(mm.KerasCallback(task, data), data, answers="probabilities")
    flipped = loader(task, data=Rows(task, torch.arange(len(labels)).flip(0)))
    with pytest.raises(ConfigError, match="the task that it is"):
        fitted(mm.KerasCallback(task, flipped), flipped)
