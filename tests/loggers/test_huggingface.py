"""Trainings of HuggingFace's Trainer are recorded example by example."""

import contextlib
import copy
import gc
import pickle

import numpy as np
import pytest
import torch
import transformers
from recorded_trainings import Network, Rows, check_observed, hooks_on, planted_task

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError, TrainingFailedError

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pin_memory.*", "ignore:.*fork.*:DeprecationWarning", "ignore:.*worker"
)


@pytest.fixture(scope="module")
def task():
    return planted_task()


def trainer(task, folder, callback, model=None, data=None, loss=None, **settings):
    arguments = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 7,
        "learning_rate": 0.0,
        "weight_decay": 0.0,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "use_cpu": True,
    }
    return transformers.Trainer(
        model or Network(),
        transformers.TrainingArguments(str(folder / "trainer"), **(arguments | settings)),
        train_dataset=data or Rows(task, named=True),
        compute_loss_func=loss,
        callbacks=[] if callback is None else [callback],
    )


def opened(path, task):
    return mm.load(path, model=Network(), task=task)


def logits_of(task):
    return Network()(task.batch(task.train_ids)[0])["logits"]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dataloader_num_workers": 2},
        {"gradient_accumulation_steps": 4, "dataloader_num_workers": 2, "dataloader_persistent_workers": True},
        {"per_device_train_batch_size": 40},
        {"max_steps": 13, "gradient_accumulation_steps": 2},
    ],
    ids=lambda value: ",".join(value) or "plain",
)
def test_every_pass_is_recorded(settings, task, tmp_path):
    callback = mm.HuggingFaceCallback(task, out=tmp_path / "run")
    made = trainer(task, tmp_path, callback, **settings)
    made.train()
    subject = opened(tmp_path / "run", task)
    epochs = len(subject.run.observations().step)
    partial = "max_steps" in settings
    assert epochs == (5 if partial else 3)
    found = subject.run.observations()
    if partial:  # 13 updates of 2 batches are 4 epochs of 6 batches each, and 2 batches
        seen = found.count.numpy()
        assert seen[:-1].min() == seen.max() == 1 and 0 < seen[-1].sum() < len(task.train_ids)
        check_observed(found, logits_of(task), task, epochs=epochs, seen=seen)
    else:
        check_observed(found, logits_of(task), task, epochs=epochs)
    assert found.step[-1] == made.state.global_step == subject.run.finished()["step"]
    assert hooks_on(made.model) == 0 and callback.path == (tmp_path / "run")
    assert pickle.loads(pickle.dumps(callback)).path == callback.path
    assert [subject.run.rows()[place]["step"] for place in (0, -1)] == [0, made.state.global_step]


def test_labels_that_the_network_does_not_see_are_the_task_s(task, tmp_path):
    def loss(returned, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(returned["logits"], labels)

    trainer(task, tmp_path, mm.HuggingFaceCallback(task, out=tmp_path / "run"), loss=loss).train()
    check_observed(opened(tmp_path / "run", task).run.observations(), logits_of(task), task, epochs=3)


def test_batches_left_over_are_not_seen(task, tmp_path):
    callback = mm.HuggingFaceCallback(task, out=tmp_path / "run")
    trainer(task, tmp_path, callback, dataloader_drop_last=True).train()
    found = opened(tmp_path / "run", task).run.observations()
    assert found.count.sum(1).tolist() == [35, 35, 35]
    check_observed(found, logits_of(task), task, epochs=3, seen=found.count.numpy())


@pytest.mark.slow
def test_recording_changes_nothing_of_the_training(task, tmp_path):
    weights = []
    for callback in (None, mm.HuggingFaceCallback(task, out=tmp_path / "run", evaluations=5)):
        made = trainer(task, tmp_path, callback, learning_rate=0.05, num_train_epochs=5)
        made.train()
        weights.append(made.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    subject = opened(tmp_path / "run", task)
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, weights[1][name]), name
    assert len(subject.run.rows()) == 6


@pytest.mark.slow
def test_wrong_labels_have_low_margins_over_training(task, tmp_path):
    callback = mm.HuggingFaceCallback(task, out=tmp_path / "run")
    trainer(task, tmp_path, callback, learning_rate=0.01, num_train_epochs=20).train()
    subject = opened(tmp_path / "run", task)
    table = mm.detect_label_noise(mm.example_scores(subject, ["aum", "confidence", "loss"]), resamples=2).to_frame()
    found = table[table["figure"] == "auroc"].set_index("score")["value"]
    assert found["aum"] > 0.9 and found["confidence"] > 0.9


def test_rows_in_another_order_are_told_by_their_ids(task, tmp_path):
    order = torch.randperm(len(task.train_ids), generator=torch.Generator().manual_seed(5))
    data = Rows(task, order, named=True)
    with pytest.raises(ConfigError, match=r"the task that it is .*pass ids="):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task, out=tmp_path / "wrong"), data=data).train()
    callback = mm.HuggingFaceCallback(task, out=tmp_path / "run", ids=data.ids)
    trainer(task, tmp_path, callback, data=data).train()
    check_observed(opened(tmp_path / "run", task).run.observations(), logits_of(task), task, epochs=3)


@pytest.mark.slow
def test_a_training_goes_on_with_its_run(task, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 8, "learning_rate": 0.05, "num_train_epochs": 4}
    whole = trainer(task, tmp_path / "a", mm.HuggingFaceCallback(task, out=tmp_path / "whole"), **settings)
    whole.train()

    class Killed(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **others):
            if state.global_step == 10:
                raise KeyboardInterrupt

    callback = mm.HuggingFaceCallback(task, out=tmp_path / "run")
    first = trainer(task, tmp_path / "b", callback, **settings)
    first.add_callback(Killed())
    with pytest.raises(KeyboardInterrupt):
        first.train()
    del first, callback
    with pytest.raises(RunDirectoryError, match="already holds a run"):
        trainer(task, tmp_path / "c", mm.HuggingFaceCallback(task, out=tmp_path / "run"), **settings).train()
    second = trainer(task, tmp_path / "b", mm.HuggingFaceCallback(task, out=tmp_path / "run"), **settings)
    second.train(resume_from_checkpoint=True)
    found, wanted = (opened(tmp_path / name, task).run.observations() for name in ("run", "whole"))
    assert found.step.tolist() == wanted.step.tolist() == [6, 12, 18, 24]
    # The second epoch was taken up again after two of its six batches.
    assert found.count.sum(1).tolist() == [40, 26, 40, 40]
    seen = found.count > 0
    assert torch.allclose(found.loss[seen], wanted.loss[seen], rtol=1e-2, atol=1e-4)
    rows = [opened(tmp_path / name, task).run.rows() for name in ("run", "whole")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]


@pytest.mark.parametrize("rows", [7, 5])
def test_a_training_that_raises_leaves_no_hook(rows, task, tmp_path):
    class Broken(Network):
        def forward(self, inputs, labels=None):
            if self.training and len(inputs) == rows:  # of 40 examples in batches of 7, the last one has 5
                raise ZeroDivisionError
            return super().forward(inputs, labels)

    model = Broken()
    made = trainer(task, tmp_path, mm.HuggingFaceCallback(task, out=tmp_path / "run"), model=model)
    with contextlib.suppress(ZeroDivisionError):
        made.train()
    if rows == 5:  # all batches were loaded, and their loader waits for the network to run on the last one
        del made
        gc.collect()
    assert hooks_on(model) == 0


def test_a_callback_records_one_training_after_another(task, tmp_path):
    callback = mm.HuggingFaceCallback(task)
    first = trainer(task, tmp_path, callback)
    first.train()
    second = trainer(task, tmp_path, callback)

    class Forgetting(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **others):
            nonlocal first
            if first is not None:
                first = None
                gc.collect()

    second.add_callback(Forgetting())
    second.train()
    check_observed(opened(callback.path, task).run.observations(), logits_of(task), task, epochs=3)


def dropping(rows):
    return transformers.default_data_collator(rows[1:])


@pytest.mark.slow
def test_what_hides_which_example_is_which_is_refused(task, tmp_path):
    made = trainer(task, tmp_path, mm.HuggingFaceCallback(task, out=tmp_path / "run"))
    made.data_collator = dropping
    with pytest.raises(ConfigError, match="handed out 7 examples, and the network answered on 6"):
        made.train()
    # The corrected training has the same directory.
    trainer(task, tmp_path, mm.HuggingFaceCallback(task, out=tmp_path / "run"), num_train_epochs=1).train()
    assert opened(tmp_path / "run", task).run.observations().step.tolist() == [6]
    few = torch.utils.data.Subset(Rows(task, named=True), range(30))
    short = Rows(task, torch.arange(30), named=True)
    with pytest.raises(ConfigError, match="have 30 rows, and the task has 40 training examples: pass ids="):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task), data=short).train()
    with pytest.raises(ConfigError, match="have 30 rows, and there are 3 ids"):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task, ids=task.train_ids[:3]), data=short).train()
    with pytest.raises(ConfigError, match="but 10 is not one"):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task, ids=np.arange(30)), data=short).train()
    with pytest.raises(ConfigError, match="one for each row, but 0 is given twice"):
        twice = [*task.train_ids[:1].tolist(), *task.train_ids[:-1].tolist()]
        trainer(task, tmp_path, mm.HuggingFaceCallback(task, ids=twice, out=tmp_path / "twice")).train()
    assert not (tmp_path / "twice").exists()
    with pytest.raises(ConfigError, match="no column 'id'"):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task, ids="id")).train()
    callback = mm.HuggingFaceCallback(task)
    trainer(task, tmp_path, callback, data=few).train()
    assert opened(callback.path, task).run.observations().count.sum(0).tolist() == [3] * 30 + [0] * 10


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, task):
        self.rows = Rows(task, named=True)

    def __iter__(self):
        return (self.rows[row] for row in range(len(self.rows)))

    def __len__(self):
        return len(self.rows)


def test_a_stream_has_no_rows(task, tmp_path):
    with pytest.raises(ConfigError, match="IterableDataset"):
        trainer(task, tmp_path, mm.HuggingFaceCallback(task), data=Stream(task), max_steps=3).train()


def test_labels_that_change_between_epochs_are_refused(task, tmp_path):
    data = Rows(task, named=True)

    class Changing(transformers.TrainerCallback):
        def on_epoch_begin(self, args, state, control, **others):
            if state.epoch >= 1:
                data.labels = (data.labels + 1) % 4

    made = trainer(task, tmp_path, mm.HuggingFaceCallback(task), data=data)
    made.add_callback(Changing())
    with pytest.raises(ConfigError, match="the task that it is"):
        made.train()


def test_two_passes_on_a_batch_are_refused(task, tmp_path):
    class Twice(transformers.Trainer):
        def compute_loss(self, model, inputs, **others):
            model(**inputs)
            return super().compute_loss(model, inputs, **others)

    made = trainer(task, tmp_path, mm.HuggingFaceCallback(task), gradient_accumulation_steps=2)
    made.__class__ = Twice
    with pytest.raises(ConfigError, match="ran 2 times in training mode"):
        made.train()


def test_a_loss_that_is_lost_names_its_example(task, tmp_path):
    class Lost(Network):
        def forward(self, inputs, labels=None):
            found = super().forward(inputs, labels)
            gone = (inputs == task.inputs[task.train_ids[17]]).all(1)
            return found | {"logits": found["logits"].masked_fill(gone[:, None] & self.training_now(), torch.nan)}

        def training_now(self):
            return torch.tensor(self.training)

    callback = mm.HuggingFaceCallback(task)
    with pytest.raises(TrainingFailedError, match=f"example {task.train_ids[17]} is NaN"):
        trainer(task, tmp_path, callback, model=Lost()).train()


def test_several_devices_are_refused(task, tmp_path):
    callback = mm.HuggingFaceCallback(task)
    made = trainer(task, tmp_path, None)
    arguments = copy.copy(made.args)
    arguments._n_gpu = 2
    with pytest.raises(ConfigError, match="1 processes and 2 devices"):
        callback.on_train_begin(arguments, made.state, made.control, made.model, made.get_train_dataloader())
