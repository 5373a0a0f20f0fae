import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.training.evaluate import evaluate, loss_of
from mechmem.training.loop import _Batches


def batches(size, n_train_fraction=0.8, seed=0):
    config = mm.TrainConfig(task=mm.ModularConfig(p=7, train_fraction=n_train_fraction), batch_size=size, seed=seed)
    task = mm.ModularTask(config.task)
    return _Batches(config, task, torch.device("cpu")), task


@pytest.mark.parametrize("size", [1, 4, 13, 38])
def test_an_epoch_of_minibatches_sees_every_example_once(size):
    drawn, task = batches(size)
    n = len(task.train_ids)
    per_epoch = -(-n // size)
    orders = []
    for epoch in range(3):
        seen = [drawn.at(epoch * per_epoch + i) for i in range(per_epoch)]
        ids = torch.cat([part.inputs[:, 0] * 7 + part.inputs[:, 1] for part in seen])
        assert sorted(ids.tolist()) == task.train_ids.tolist()
        assert torch.equal(torch.cat([part.ids for part in seen]), ids)
        assert torch.equal(torch.cat([part.given for part in seen]), task.given(ids))
        assert all(len(part.given) == size for part in seen[:-1])
        orders.append(ids.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_the_order_of_a_step_is_derived_and_not_carried():
    forwards, backwards, other = batches(5)[0], batches(5)[0], batches(5, seed=1)[0]
    steps = range(40)
    one = {step: forwards.at(step).inputs for step in steps}
    two = {step: backwards.at(step).inputs for step in reversed(steps)}
    assert all(torch.equal(one[step], two[step]) for step in steps)
    assert any(not torch.equal(one[step], other.at(step).inputs) for step in steps)


@pytest.mark.parametrize("size", [0, 39, 1000])
def test_the_full_batch_is_every_example_in_order(size):
    drawn, task = batches(size)
    assert torch.equal(drawn.at(3).given, task.given(task.train_ids))


@pytest.mark.parametrize("size", [0, 4])
def test_training_fits_and_leaves_the_global_state_alone(size):
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=5, noise=mm.LabelNoise(0.3)),
        model=mm.MLPConfig(width=64),
        steps=150,
        batch_size=size,
        lr=0.01,
    )
    subject = mm.train(config, progress=False)
    last = subject.run.history().iloc[-1]
    assert last["train_clean"] == last["train_noisy"] == 1
    assert last["train_loss"] < 0.5 * subject.run.history().iloc[0]["train_loss"]
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_num_threads() == threads


def test_a_step_whose_examples_are_all_left_out_has_no_gradient(tiny_config):
    task = mm.ModularTask(tiny_config.task)
    config = dataclasses.replace(
        tiny_config, batch_size=1, steps=len(task.train_ids), left_out=tuple(task.train_ids.tolist()[1:])
    )
    found = mm.train(config, progress=False)
    assert found.run.finished()["step"] == config.steps
    assert all(torch.isfinite(each).all() for each in found.model.parameters())


def test_the_same_config_gives_the_same_bits(tiny_config, tiny_run):
    again = mm.train(tiny_config, progress=False)
    for one, two in zip(tiny_run.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert tiny_run.run.rows() == again.run.rows()
    seeded = mm.train(dataclasses.replace(tiny_config, seed=1), progress=False)
    assert not torch.equal(seeded.model.W_in, again.model.W_in)


def test_how_often_it_looks_changes_nothing(tiny_config, tiny_run):
    once = mm.train(dataclasses.replace(tiny_config, evaluations=1, checkpoints=1), progress=False)
    assert torch.equal(once.model.W_in, tiny_run.model.W_in)
    assert once.run.checkpoint_steps() == [0, 30]


@pytest.mark.parametrize("optimizer, lr", [("sgd", 1e30), ("adam", 1e30)])
def test_a_loss_that_is_no_number_fails_with_its_step(optimizer, lr, tmp_path):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=5), model=mm.MLPConfig(width=8), optimizer=optimizer, lr=lr, steps=50, evaluations=1
    )
    with pytest.raises(TrainingFailedError, match=r"loss is (nan|inf) at step [1-9]") as failure:
        mm.train(config, out=tmp_path / "run", progress=False)
    assert int(str(failure.value).split("at step ")[1].split(";")[0]) < 50
    run = mm.load(tmp_path / "run").run
    assert run.finished() is None
    assert all(torch.isfinite(p).all() for p in run.model_at(run.checkpoint_steps()[-1]).parameters())


@pytest.mark.parametrize("evaluations", [1, 50])
def test_so_does_an_evaluation_that_is_no_number(evaluations, tmp_path):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=5),
        model=mm.MLPConfig(width=8),
        optimizer="sgd",
        lr=1e10,
        weight_decay=1e20,
        steps=20,
        evaluations=evaluations,
    )
    with pytest.raises(TrainingFailedError, match="at step"):
        mm.train(config, out=tmp_path / "run", progress=False)


def test_a_test_loss_that_is_no_number_is_not_written(tmp_path):
    model = torch.nn.Linear(1, 3, bias=False)
    inputs = torch.tensor([[1.0], [1.0], [3e38]])
    labels = torch.tensor([0, 1, 2])
    task = mm.ArrayTask(inputs, labels, labels, torch.tensor([True, True, False]))
    model.weight.data.fill_(100.0)
    recorder = mm.Recorder(model, task, steps=3, out=tmp_path / "run")
    with pytest.raises(TrainingFailedError, match="is nan at step 0"):
        recorder(0)
    assert recorder.run().rows() == []


def test_a_disk_that_is_full_fails_with_its_step(tiny_config, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mechmem.training.recorder.write_checkpoint", full)
    with pytest.raises(TrainingFailedError, match="could not write to .* at step 0: .*No space left"):
        mm.train(tiny_config, out=tmp_path / "run", progress=False)


def test_training_stops_when_the_condition_holds(tmp_path):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=5),
        model=mm.MLPConfig(width=64),
        steps=500,
        lr=0.01,
        evaluations=500,
        stop_when="train_clean >= 0.9",
        checkpoints=2,
    )
    subject = mm.train(config, out=tmp_path / "run", progress=False)
    history = subject.run.history()
    finished = subject.run.finished()
    assert finished == {"step": int(history["step"].iloc[-1]), "reason": "train_clean >= 0.9"}
    assert finished["step"] < 500
    assert history["train_clean"].iloc[-1] >= 0.9 and (history["train_clean"].iloc[:-1] < 0.9).all()
    assert subject.run.checkpoint_steps()[-1] == finished["step"]
    assert subject.retrainer.steps == finished["step"]
    again = mm.train(config, out=tmp_path / "run", progress=False)
    assert torch.equal(again.model.W_in, subject.model.W_in) and again.retrainer.steps == finished["step"]


def test_a_condition_that_holds_from_the_start_stops_after_one_step():
    config = mm.TrainConfig(task=mm.ModularConfig(p=5), model=mm.MLPConfig(width=8), steps=50, stop_when="test >= 0")
    assert mm.train(config, progress=False).run.finished() == {"step": 1, "reason": "test >= 0"}


def test_a_condition_on_an_empty_split_is_refused_before_anything_is_written(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, task=mm.ModularConfig(p=5), stop_when="train_noisy <= 1")
    with pytest.raises(ConfigError, match="no examples in train_noisy"):
        mm.train(config, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_evaluation_against_a_recomputation(tiny_run, loss):
    task, model = tiny_run.task, tiny_run.model
    found = evaluate(model, task, loss)
    logits = model(task.batch(task.ids)[0]).detach().double()
    given, true = task.given(task.ids), task.true(task.ids)
    log_p = logits.log_softmax(1)
    prediction = logits.argmax(1)
    expected = {
        "train_clean": (task.splits["train_clean"], given),
        "train_noisy": (task.splits["train_noisy"], given),
        "train_noisy_true": (task.splits["train_noisy"], true),
        "test": (task.test_ids, true),
    }
    for name, (ids, labels) in expected.items():
        assert found.row[name] == pytest.approx((prediction[ids] == labels[ids]).double().mean().item())
        assert found.row[f"{name}_loss"] == pytest.approx(-log_p[ids, labels[ids]].mean().item(), rel=1e-6)
    train = task.train_ids
    by_loss = {
        "cross_entropy": -log_p[train, given[train]].mean(),
        "mse": (logits[train] - torch.eye(5, dtype=torch.float64)[given[train]]).square().mean(),
    }
    assert found.row["train_loss"] == pytest.approx(by_loss[loss].item(), rel=1e-5)
    assert torch.equal(found.given, prediction == given) and torch.equal(found.true, prediction == true)


def test_splits_that_are_empty_or_unknown_read_null():
    clean = mm.ModularTask(mm.ModularConfig(p=5))
    noisy = mm.ModularTask(mm.ModularConfig(p=5, noise=mm.LabelNoise(1.0)))
    model = HookedMLP(mm.MLPConfig(width=8), 5)
    row = evaluate(model, clean).row
    assert [name for name, value in row.items() if value is None] == [
        f"{split}{suffix}" for split in ("train_noisy", "train_noisy_true") for suffix in ("", "_loss")
    ]
    assert evaluate(model, noisy).row["train_clean"] is None

    true = torch.where(torch.isin(clean.ids, clean.train_ids), -1, clean.true(clean.ids))
    unknown = mm.ArrayTask(clean.operands, clean.given(clean.ids), true, torch.isin(clean.ids, clean.train_ids))
    found = evaluate(model, unknown)
    assert found.row["train_clean"] is None and found.row["train_noisy_true"] is None
    assert found.row["test"] is not None
    assert not found.true[clean.train_ids].any()


def test_mse_is_the_mean_over_examples_and_classes():
    logits, given = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([1])
    assert loss_of(logits, given, "mse").item() == pytest.approx((1 + 1 + 0) / 3)


def test_an_unknown_device_is_refused_before_anything_is_written(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="device 'cuda:77'"):
        mm.train(tiny_config, out=tmp_path / "run", device="cuda:77", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_config_that_cannot_be_built_is_refused_before_anything_is_written(tiny_config, tmp_path):
    impossible = dataclasses.replace(tiny_config, task=mm.ModularConfig(p=5, noise=mm.LabelNoise(0.2, "bijective")))
    with pytest.raises(ConfigError, match="no Latin square"):
        mm.train(impossible, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_directory_that_holds_something_else_is_left_alone(tiny_config, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunDirectoryError, match="holds something else"):
        mm.train(tiny_config, out=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="holds something else"):
        mm.train(tiny_config, out=tmp_path / "thesis.tex", progress=False)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
