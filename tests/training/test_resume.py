"""A run that is killed and resumed equals one that was not, to the bit, wherever it was killed."""

import dataclasses
import os
import signal
import subprocess
import sys

import pytest
import torch
from interrupted import contents, stop_at

import mechmem as mm
from mechmem.errors import RunDirectoryError
from mechmem.training import going_on
from mechmem.training.optimizers import Optimizers
from mechmem.training.recorder import Recorder


class Killed(BaseException):
    """Stands for a kill: unlike an interrupt nothing in mechmem may catch it."""


BASE = mm.TrainConfig(
    task=mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
    model=mm.MLPConfig(width=12, bias=True),
    steps=40,
    lr=0.01,
    evaluations=8,
    checkpoints=4,
)
CONFIGS = {
    "adamw": BASE,
    "muon": dataclasses.replace(BASE, optimizer="muon"),
    "minibatches": dataclasses.replace(BASE, batch_size=4, optimizer="sgd"),
    "bf16": dataclasses.replace(BASE, precision="bf16", optimizer="adam", loss="mse"),
    "transformer": dataclasses.replace(
        BASE, model=mm.TransformerConfig(d_model=8, heads=2, layer_norm=True, dropout=0.1), optimizer="muon"
    ),
}
# Scheduled: evaluations at 0, 1, 2, 3, 5, 8, 14, 24, 40; checkpoints at 0, 1, 3, 12, 40.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of each uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    made = {}
    for name, config in CONFIGS.items():
        mm.train(config, out=folder / name, progress=False)
        made[name] = contents(folder / name)
    return made


PLACES = {
    "before a step's gradients": (Optimizers, "zero_grad", 18, True),
    "after an update": (Optimizers, "step", 18, False),
    "before an update": (Optimizers, "step", 18, True),
    "within an update": (torch.optim.AdamW, "step", 18, False),
    "before the recorder hears of a step": (Recorder, "__call__", 25, True),
    "after the recorder heard of it": (Recorder, "__call__", 25, False),
    "before an evaluation": (Recorder, "evaluate", 7, True),
    "after an evaluation": (Recorder, "evaluate", 7, False),
    "before the first evaluation": (Recorder, "evaluate", 1, True),
    "before the first checkpoint": (Recorder, "checkpoint", 1, True),
    "before a checkpoint": (Recorder, "checkpoint", 4, True),
    "after a checkpoint": (Recorder, "checkpoint", 4, False),
    "before the last checkpoint": (Recorder, "checkpoint", 5, True),
    "before the end is written": (Recorder, "finish", 1, True),
    "before the history starts": (going_on, "write_history", 1, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["interrupted", "killed"])
def test_a_run_stopped_anywhere_resumes_to_the_same_bits(place, kind, whole, tmp_path, monkeypatch):
    error = KeyboardInterrupt() if kind == "interrupted" else Killed()
    owner, name, count, before = PLACES[place]
    with monkeypatch.context() as patch, pytest.raises(type(error)):
        stop_at(patch, owner, name, count, error, before=before)
        mm.train(BASE, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "finished.json").exists()
    mm.train(BASE, out=tmp_path / "run", progress=False)
    assert contents(tmp_path / "run") == whole["adamw"]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("steps", [(1,), (13,), (24, 25), (2, 5, 30, 39)])
def test_every_optimiser_resumes_after_any_number_of_interrupts(name, steps, whole, tmp_path, monkeypatch):
    for step in steps:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            original = Recorder.__call__

            def interrupted(self, now, optimizer=None, *, step=step, original=original):
                if now == step:
                    raise KeyboardInterrupt
                return original(self, now, optimizer)

            patch.setattr(Recorder, "__call__", interrupted)
            mm.train(CONFIGS[name], out=tmp_path / "run", progress=False)
        assert mm.load(tmp_path / "run").run.checkpoint_steps()[-1] == step
    mm.train(CONFIGS[name], out=tmp_path / "run", progress=False)
    assert contents(tmp_path / "run") == whole[name]


def test_an_interrupt_keeps_the_state_reached(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, Optimizers, "zero_grad", 18, KeyboardInterrupt())
        mm.train(BASE, out=tmp_path / "run", progress=False)
    assert mm.load(tmp_path / "run").run.checkpoint_steps() == [0, 1, 3, 12, 17]


@pytest.mark.slow
def test_a_process_that_is_killed_resumes_to_the_same_bits(whole, tmp_path):
    code = f"""
import os, signal, torch
torch.set_num_threads({torch.get_num_threads()})
import mechmem as mm
from mechmem.training.recorder import Recorder
original = Recorder.__call__
def call(self, step, optimizer=None):
    if step == 26:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, step, optimizer)
Recorder.__call__ = call
mm.train(mm.TrainConfig.from_dict({BASE.to_dict()!r}), out={str(tmp_path / "run")!r}, progress=False)
"""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr
    assert mm.load(tmp_path / "run").run.checkpoint_steps() == [0, 1, 3, 12]
    mm.train(BASE, out=tmp_path / "run", progress=False)
    assert contents(tmp_path / "run") == whole["adamw"]


@pytest.mark.parametrize("place", ["before a checkpoint", "before the end is written", "after an evaluation"])
def test_a_run_killed_where_it_should_stop_early_still_stops_there(place, tmp_path, monkeypatch):
    config = dataclasses.replace(BASE, stop_when="train_loss >= 0".replace("train_loss", "test"), evaluations=2)
    owner, name, _, before = PLACES[place]
    count = {"checkpoint": 2, "finish": 1, "evaluate": 2}[name]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, owner, name, count, Killed(), before=before)
        mm.train(config, out=tmp_path / "run", progress=False)
    mm.train(config, out=tmp_path / "run", progress=False)
    mm.train(config, out=tmp_path / "other", progress=False)
    assert contents(tmp_path / "run") == contents(tmp_path / "other")
    assert mm.load(tmp_path / "run").run.finished() == {"step": 1, "reason": "test >= 0"}


def test_a_finished_run_is_returned_as_it_is(tmp_path, monkeypatch):
    first = mm.train(BASE, out=tmp_path / "run", progress=False)
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file()
    }
    monkeypatch.setattr("mechmem.training.train.optimize", lambda *_a, **_k: pytest.fail("trained again"))
    again = mm.train(BASE, out=tmp_path / "run", progress=False)
    after = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file()
    }
    assert after == before
    assert torch.equal(first.model.W_in, again.model.W_in)
    assert again.retrainer.steps == 40


@pytest.mark.parametrize(
    "change, names",
    [
        ({"lr": 0.02}, "lr"),
        ({"steps": 41}, "steps"),
        ({"seed": 1, "precision": "bf16"}, "precision, seed"),
        ({"task": mm.ModularConfig(p=5, train_fraction=0.7)}, "task"),
        ({"model": mm.MLPConfig(width=13, bias=True)}, "model"),
    ],
)
def test_a_different_config_is_refused(change, names, tmp_path, tiny_config):
    mm.train(dataclasses.replace(BASE, steps=2, evaluations=1, checkpoints=1), out=tmp_path / "run", progress=False)
    before = contents(tmp_path / "run")
    change = {"steps": 2, **change}
    with pytest.raises(RunDirectoryError, match=rf"another config \(it differs in .*{names}"):
        mm.train(
            dataclasses.replace(BASE, evaluations=1, checkpoints=1, **change), out=tmp_path / "run", progress=False
        )
    assert contents(tmp_path / "run") == before


def test_threads_of_the_run_are_restored_on_resume(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, Optimizers, "zero_grad", 5, KeyboardInterrupt())
        mm.train(BASE, out=tmp_path / "run", progress=False)
    seen = []
    monkeypatch.setattr(Recorder, "finish", lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        mm.train(BASE, out=tmp_path / "run", progress=False)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_a_second_interrupt_does_not_undo_what_the_first_saves(tiny_config, tmp_path, monkeypatch):
    original = Recorder.checkpoint

    def interrupted(self, step, optimizer=None):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, step, optimizer)

    def stop(step, row):
        if step == 17:
            monkeypatch.setattr(Recorder, "checkpoint", interrupted)
            raise KeyboardInterrupt

    monkeypatch.setattr("mechmem.training.progress.Silent.step", lambda self, step, row: stop(step, row))
    with pytest.raises(KeyboardInterrupt):
        mm.train(tiny_config, out=tmp_path / "run", progress=False)
    assert 17 in mm.load(tmp_path / "run").run.checkpoint_steps()
