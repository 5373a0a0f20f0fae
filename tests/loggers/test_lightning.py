"""Trainings of Lightning's Trainer are recorded example by example."""

import pickle

import lightning.pytorch as lightning
import pytest
import torch
import torch.nn.functional as F
from recorded_trainings import Network, Rows, check_observed, hooks_on, planted_task
from torch.utils.data import DataLoader

import mechmem as mm
from mechmem.errors import ConfigError, RunDirectoryError

# Importing it takes longer than training.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def task():
    return planted_task()


class Module(lightning.LightningModule):
    """Its training step calls a submodule, or the module itself."""

    def __init__(self, lr=0.0, *, own=False):
        super().__init__()
        self.net, self.lr, self.own = Network().layers, lr, own

    def forward(self, inputs):
        return self.net(inputs)

    def training_step(self, batch, number):
        inputs, labels = batch
        return F.cross_entropy(self(inputs) if self.own else self.net(inputs), labels)

    def validation_step(self, batch, number):
        self.net(batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def loader(task, **settings):
    return DataLoader(settings.pop("data", None) or Rows(task), **({"batch_size": 7, "shuffle": True} | settings))


def trainer(callbacks, **settings):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet["enable_checkpointing"] = any(isinstance(each, lightning.callbacks.Checkpoint) for each in callbacks)
    return lightning.Trainer(callbacks=callbacks, **(quiet | {"max_epochs": 3} | settings))


def opened(path, task):
    return mm.load(path, model=Network().layers, task=task)


def logits_of(task):
    return Network().layers(task.batch(task.train_ids)[0])


@pytest.mark.parametrize(
    ("loading", "settings"),
    [
        ({}, {}),
        ({"num_workers": 2}, {"accumulate_grad_batches": 4}),
        ({"num_workers": 2, "persistent_workers": True}, {"num_sanity_val_steps": 2}),
        ({}, {"limit_train_batches": 3}),
        ({}, {"reload_dataloaders_every_n_epochs": 1}),
    ],
    ids=["plain", "accumulated", "persistent", "limited", "reloaded"],
)
def test_every_pass_is_recorded(loading, settings, task, tmp_path):
    callback = mm.LightningCallback(task, model="net", out=tmp_path / "run")
    module, held_out = Module(), DataLoader(Rows(task), batch_size=9)
    made = trainer([callback], **settings)
    made.fit(module, loader(task, **loading), held_out)
    found = opened(tmp_path / "run", task).run.observations()
    seen = found.count.numpy()
    if "limit_train_batches" in settings:
        assert seen.sum(1).tolist() == [21, 21, 21] and seen.max() == 1
    check_observed(found, logits_of(task), task, epochs=3, seen=seen)
    assert seen.all() or "limit_train_batches" in settings
    assert found.step[-1] == made.global_step and hooks_on(module) == 0
    assert pickle.loads(pickle.dumps(callback)).path == callback.path
    assert "process_dataloader" not in vars(made.strategy)


def test_recording_changes_nothing_of_the_training(task, tmp_path):
    weights = []
    for callback in (None, mm.LightningCallback(task, out=tmp_path / "run", evaluations=5)):
        module = Module(0.5, own=True)
        torch.manual_seed(7)
        trainer([] if callback is None else [callback], max_epochs=4).fit(module, loader(task))
        weights.append(module.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    subject = mm.load(tmp_path / "run", model=Module(own=True), task=task)
    assert len(subject.run.rows()) == 6 and subject.run.rows()[-1]["step"] == 24
    assert torch.equal(subject.model.net[0].weight, weights[0]["net.0.weight"])


def test_a_training_goes_on_with_its_run(task, tmp_path):
    save = lightning.callbacks.ModelCheckpoint(tmp_path / "saved", every_n_epochs=1, save_top_k=-1)
    first = mm.LightningCallback(task, model="net", out=tmp_path / "run")
    trainer([first, save], max_epochs=3).fit(Module(0.5), loader(task))
    before = opened(tmp_path / "run", task).run.observations()
    (saved,) = (tmp_path / "saved").glob("epoch=1-*")
    second = mm.LightningCallback(task, model="net", out=tmp_path / "run")
    trainer([second], max_epochs=5).fit(Module(0.5), loader(task), ckpt_path=saved, weights_only=False)
    after = opened(tmp_path / "run", task).run.observations()
    assert after.step.tolist() == [6, 12, 18, 24, 30] and (after.count == 1).all()
    assert torch.equal(after.loss[:2], before.loss[:2])
    # What was not recorded before is recorded from here on.
    third = mm.LightningCallback(task, model="net", out=tmp_path / "new")
    trainer([third], max_epochs=5).fit(Module(0.5), loader(task), ckpt_path=saved, weights_only=False)
    assert opened(tmp_path / "new", task).run.observations().step.tolist() == [18, 24, 30]


def test_a_training_goes_on_with_the_network_that_was_saved_only(task, tmp_path):
    save = lightning.callbacks.ModelCheckpoint(tmp_path / "saved", every_n_epochs=1, save_top_k=-1)

    def callback():
        return mm.LightningCallback(task, model="net", out=tmp_path / "run", checkpoints=[0, 12])

    trainer([callback(), save], max_epochs=3).fit(Module(0.5), loader(task))
    (saved,) = (tmp_path / "saved").glob("epoch=1-*")
    held = torch.load(saved, weights_only=False)
    right = {name: each.clone() for name, each in held["state_dict"].items()}
    held["state_dict"] = {name: each + 1 for name, each in right.items()}
    torch.save(held, tmp_path / "other.ckpt")
    with pytest.raises(RunDirectoryError, match="at step 12 it saved other weights"):
        trainer([callback()], max_epochs=5).fit(
            Module(0.5), loader(task), ckpt_path=tmp_path / "other.ckpt", weights_only=False
        )
    assert opened(tmp_path / "run", task).run.finished()["step"] == 18
    trainer([callback()], max_epochs=5).fit(Module(0.5), loader(task), ckpt_path=saved, weights_only=False)
    assert opened(tmp_path / "run", task).run.finished()["step"] == 30


def test_a_training_that_raises_leaves_nothing_behind(task, tmp_path):
    class Broken(Module):
        def training_step(self, batch, number):
            if self.trainer.current_epoch == 1:
                raise ZeroDivisionError
            return super().training_step(batch, number)

    module, data = Broken(), loader(task)
    inner = data.batch_sampler
    made = trainer([mm.LightningCallback(task, model="net", out=tmp_path / "run")])
    with pytest.raises(ZeroDivisionError):
        made.fit(module, data)
    assert hooks_on(module) == 0 and data.batch_sampler is inner
    assert "process_dataloader" not in vars(made.strategy)


def test_the_training_examples_among_all_have_their_ids(task, tmp_path):
    inputs, labels = task.batch(task.ids)
    among = torch.utils.data.Subset(torch.utils.data.TensorDataset(inputs, labels), task.train_ids.tolist())
    for name, ids in (("none", None), ("theirs", task.train_ids), ("all", task.ids)):
        callback = mm.LightningCallback(task, model="net", out=tmp_path / name, ids=ids)
        trainer([callback], max_epochs=1).fit(Module(), loader(task, data=among))
        assert opened(tmp_path / name, task).run.observations().count.tolist() == [[1] * len(task.train_ids)]
    with pytest.raises(ConfigError, match="have 39 rows, and the task has 40 training examples"):
        fewer = torch.utils.data.Subset(among, range(39))
        trainer([mm.LightningCallback(task, model="net")]).fit(Module(), loader(task, data=fewer))


def test_what_is_not_seen_is_said(task, tmp_path):
    with pytest.raises(ConfigError, match=r"ran not at all .*model='net'"):
        trainer([mm.LightningCallback(task, out=tmp_path / "run")]).fit(Module(), loader(task))
    trainer([mm.LightningCallback(task, model="net", out=tmp_path / "run")]).fit(Module(), loader(task))
    with pytest.raises(ConfigError, match=r"it is in evaluation mode; call its train"):
        frozen = Module()
        frozen.net.eval()
        trainer([mm.LightningCallback(task, model="net")]).fit(frozen, loader(task))
    with pytest.raises(ConfigError, match="has no submodule 'nett'"):
        trainer([mm.LightningCallback(task, model="nett")]).fit(Module(), loader(task))
    with pytest.raises(ConfigError, match="the training has no end"):
        trainer([mm.LightningCallback(task, model="net")], max_epochs=-1).fit(Module(), loader(task))
    order = torch.arange(len(task.train_ids)).flip(0)
    with pytest.raises(ConfigError, match=r"the task that it is .*pass ids="):
        trainer([mm.LightningCallback(task, model="net")]).fit(Module(), loader(task, data=Rows(task, order)))
    with pytest.raises(ConfigError, match="has none"):
        data = DataLoader(Rows(task), batch_size=None)
        trainer([mm.LightningCallback(task, model="net")]).fit(Module(), data)
    both = {"a": loader(task), "b": loader(task)}
    with pytest.raises(ConfigError, match="this one has 2"):
        trainer([mm.LightningCallback(task, model="net")]).fit(Module(), both)
