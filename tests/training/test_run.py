import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from interrupted import contents, stop_at

import mechmem as mm
from mechmem.core import storage
from mechmem.errors import ConfigError, RunDirectoryError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.training import train as training
from mechmem.training.run import Run


@pytest.fixture
def copy(tiny_run, tmp_path):
    """A copy of the tiny run, to be damaged."""
    return shutil.copytree(tiny_run.run.path, tmp_path / "run")


def test_what_is_in_a_run(tiny_run, tiny_config):
    path = tiny_run.run.path
    names = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and "twins" not in file.parts
    )
    # log-spaced: 1, √30, 30
    assert names == [
        "checkpoints/step_0.safetensors",
        "checkpoints/step_1.safetensors",
        "checkpoints/step_30.optimizer.safetensors",
        "checkpoints/step_30.safetensors",
        "checkpoints/step_5.safetensors",
        "config.json",
        "finished.json",
        "history.bits",
        "history.jsonl",
    ]
    header = json.loads((path / "config.json").read_text())
    assert header["format"] == 1 and header["threads"] == torch.get_num_threads()
    assert mm.TrainConfig.from_dict(header["config"]) == tiny_config
    assert header["versions"]["torch"] == torch.__version__


def test_a_loaded_run_is_the_trained_one(tiny_run):
    loaded = mm.load(tiny_run.run.path)
    for one, two in zip(tiny_run.model.parameters(), loaded.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert loaded.task.digest == tiny_run.task.digest and loaded.roles == tiny_run.roles
    assert loaded.run.rows() == tiny_run.run.rows()
    assert loaded.retrainer.steps == tiny_run.retrainer.steps == 30
    assert loaded.name == "tiny"


def test_every_checkpoint_is_the_network_at_its_step(tiny_run, tiny_config):
    initial = mm.load(tiny_run.run.path, step=0)
    expected = HookedMLP(tiny_config.model, 5, tiny_config.seed)
    assert torch.equal(initial.model.W_in, expected.W_in)
    for step in (0, 1, 30):
        row = next(row for row in tiny_run.run.rows() if row["step"] == step)
        found = mm.training.evaluate.evaluate(tiny_run.run.model_at(step), tiny_run.task)
        assert {"step": step, **found.row} == row


def test_a_checkpoint_is_no_copy_of_what_the_trained_network_is_used_for_now(tiny_run):
    model = tiny_run.copy_model()
    tiny_run.model.train().requires_grad_(False)
    handle = tiny_run.model.hook_hidden.register_forward_hook(lambda *_: pytest.fail("a hook of another network"))
    try:
        then = tiny_run.run.model_at(30)
        then(tiny_run.task.batch(tiny_run.task.ids)[0])
    finally:
        handle.remove()
        tiny_run.model.eval().requires_grad_(True)
    assert not then.training and all(each.requires_grad for each in then.parameters())
    assert all(torch.equal(*pair) for pair in zip(then.parameters(), model.parameters(), strict=True))


def test_a_checkpoint_is_the_full_network_whichever_subnetwork_is_chosen():
    task = mm.ImageConfig("digits", train=40, test=20)
    model = mm.ImageMLPConfig((16,), biases=False, masks=mm.TurnOver())
    run = mm.train(mm.TrainConfig(task, model, steps=2, checkpoints=1), progress=False)
    recorded = mm.training.run.Run(run.run.path, run.model, run.task)
    own = mm.training.run.Run(run.run.path, run.model, run.task)
    own.config = None  # as of a user's own loop
    inputs = run.task.batch(run.task.ids)[0]
    expected = run.model(inputs)
    with mm.subnetwork(run, "flipped", 3):
        for each in (recorded, own):
            assert torch.equal(each.model_at(2)(inputs), expected)


def test_history_has_a_row_per_evaluation(tiny_run):
    history = tiny_run.run.history()
    assert history["step"].tolist() == [0, 1, 2, 4, 8, 15, 30]
    assert history.drop(columns="step").notna().all(axis=None)


def test_history_of_a_run_without_noise_reads_null(tmp_path):
    config = mm.TrainConfig(task=mm.ModularConfig(p=3), model=mm.MLPConfig(width=4), steps=2)
    run = mm.train(config, out=tmp_path / "run", progress=False).run
    row = json.loads((tmp_path / "run" / "history.jsonl").read_text().splitlines()[0])
    assert row["train_noisy"] is None and row["train_noisy_true"] is None and row["train_noisy_loss"] is None
    assert row["train_clean"] is not None
    assert run.history()["train_noisy"].isna().all()


def test_correctness_bits_agree_with_a_recomputation(tiny_run):
    given_bits, true_bits = tiny_run.run.correctness()
    task, steps = tiny_run.task, tiny_run.run.history()["step"].tolist()
    assert given_bits.shape == true_bits.shape == (len(steps), 25)
    for step in tiny_run.run.checkpoint_steps():
        if step not in steps:
            continue
        model = tiny_run.run.model_at(step)
        prediction = model(task.batch(task.ids)[0]).argmax(1)
        row = steps.index(step)
        assert np.array_equal(given_bits[row], (prediction == task.given(task.ids)).numpy())
        assert np.array_equal(true_bits[row], (prediction == task.true(task.ids)).numpy())
    history = tiny_run.run.history()
    clean, noisy, test = (task.splits[name].numpy() for name in ("train_clean", "train_noisy", "test"))
    np.testing.assert_allclose(given_bits[:, clean].mean(1), history["train_clean"])
    np.testing.assert_allclose(given_bits[:, noisy].mean(1), history["train_noisy"])
    np.testing.assert_allclose(true_bits[:, noisy].mean(1), history["train_noisy_true"])
    np.testing.assert_allclose(true_bits[:, test].mean(1), history["test"])


def test_bits_that_a_kill_left_over_do_no_harm(copy):
    expected = Run(copy).correctness()
    with (copy / "history.bits").open("ab") as file:
        file.write(b"\x00\xff\x00")
    for one, two in zip(Run(copy).correctness(), expected, strict=True):
        assert np.array_equal(one, two)


def write(name, content):
    return lambda run: (run / name).write_bytes(content)


def truncate(name, size):
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:size])


def header(**changes):
    def change(run):
        values = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({**values, **changes}))

    return change


def without(key):
    def change(run):
        values = json.loads((run / "config.json").read_text())
        (run / "config.json").write_text(json.dumps({k: v for k, v in values.items() if k != key}))

    return change


def config(**changes):
    def change(run):
        values = json.loads((run / "config.json").read_text())
        values["config"] |= changes
        (run / "config.json").write_text(json.dumps(values))

    return change


def other_shape(run):
    storage.write_tensors(
        run / "checkpoints/step_30.safetensors", {"W_in": torch.zeros(10, 3), "W_out": torch.zeros(3, 5)}
    )


def other_precision(run):
    path = run / "checkpoints/step_30.safetensors"
    stored = storage.read_stored(path)
    storage.write_tensors(path, {name: each.double() for name, each in stored.tensors.items()}, stored.about)


def without_hash(run):
    path = run / "checkpoints/step_30.safetensors"
    safetensors.torch.save_file(storage.read_tensors(path), path)


def early_checkpoint(run):
    shutil.copy(run / "checkpoints/step_0.safetensors", run / "checkpoints/step_30.safetensors")


def other_run(run):
    path = run / "checkpoints/step_30.safetensors"
    stored = storage.read_stored(path)
    storage.write_tensors(path, stored.tensors, {**stored.about, "run": "0123456789abcdef"})


def drop_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


DAMAGES = {
    "no header": (lambda run: (run / "config.json").unlink(), "no config.json"),
    "empty header": (write("config.json", b""), "cannot read"),
    "truncated header": (truncate("config.json", 60), "cannot read"),
    "binary header": (write("config.json", b"\x80\x04\x95"), "cannot read"),
    "header of another program": (write("config.json", b'{"name": "vite"}'), "not of run format 1"),
    "header that is a list": (write("config.json", b"[1, 2]"), "not of run format 1"),
    "another format": (header(format=2), "not of run format 1"),
    "no threads": (without("threads"), "not of run format 1"),
    "threads that are no number": (header(threads="many"), "not of run format 1"),
    "a config that is no config": (header(config="adam"), "config"),
    "threads that no machine has": (header(threads=10**6), "not of run format 1"),
    "other threads": (header(threads=2), "changed after the run was started"),
    "another task": (header(task="0123456789abcdef"), "changed after the run was started"),
    "a config of an unknown kind": (config(kind="tran"), "config"),
    "a config of a kind that is no word": (config(kind=["train"]), "config"),
    "a config too large for any machine": (config(steps=10**400), "config"),
    "more evaluations than can be listed": (config(evaluations=10**18), "evaluations must be at most 1,000,000"),
    "a config with an unknown setting": (config(lrr=1), "config"),
    "a config out of range": (config(lr=-1), "config"),
    "no checkpoints": (drop_checkpoints, "no checkpoint"),
    "an empty checkpoint": (write("checkpoints/step_30.safetensors", b""), "cannot read"),
    "a truncated checkpoint": (truncate("checkpoints/step_30.safetensors", 300), "cannot read"),
    "a network of another shape": (other_shape, "network of another shape"),
    "a network of another precision": (other_precision, "network of another shape or precision"),
    "a checkpoint without its hash": (without_hash, "has no hash"),
    "an early checkpoint in the place of the last": (early_checkpoint, "its step is 0, not 30"),
    "a checkpoint of another run": (other_run, "not of this checkpoint: its run is"),
    "a mark of the end without its hash": (write("finished.json", b'{"step": 30, "reason": ""}'), "has no hash"),
    "another end": (write("finished.json", b'{"step": 5, "reason": "", "hash": "0"}'), "does not match its hash"),
    "a mark of the end that says nothing": (write("finished.json", b"{}"), "at which step the run ended"),
    "a lost last checkpoint": (
        lambda run: (run / "checkpoints/step_30.safetensors").unlink(),
        "lost its last checkpoint, of step 30",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_refused(damage, copy):
    harm, message = DAMAGES[damage]
    harm(copy)
    with pytest.raises(RunDirectoryError, match=message):
        mm.load(copy)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name not in ("no checkpoints", "no header")])
def test_nor_is_it_resumed(damage, copy, tiny_config):
    DAMAGES[damage][0](copy)
    with pytest.raises(RunDirectoryError):
        mm.train(tiny_config, out=copy, progress=False)


@pytest.mark.parametrize(
    "harm, message",
    [
        (truncate("checkpoints/step_30.optimizer.safetensors", 100), "cannot read"),
        (lambda run: (run / "checkpoints/step_30.optimizer.safetensors").unlink(), "no optimiser state"),
        (
            lambda run: shutil.copy(
                run / "checkpoints/step_30.safetensors", run / "checkpoints/step_30.optimizer.safetensors"
            ),
            "optimiser",
        ),
    ],
)
def test_a_damaged_optimiser_is_not_resumed(harm, message, copy, tiny_config):
    (copy / "finished.json").unlink()
    harm(copy)
    with pytest.raises(RunDirectoryError, match=message):
        mm.train(tiny_config, out=copy, progress=False)


def test_a_damaged_mark_of_the_end(copy, tiny_config):
    (copy / "finished.json").write_text("{")
    with pytest.raises(RunDirectoryError, match="finished.json"):
        mm.train(tiny_config, out=copy, progress=False)


def test_directories_that_are_no_runs(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    for name, message in (
        ("none", "does not exist"),
        ("file", "it is a file"),
        ("empty", "is empty"),
        ("other", "holds something else"),
    ):
        with pytest.raises(RunDirectoryError, match=message):
            mm.load(tmp_path / name)


def test_a_step_that_was_not_saved(tiny_run):
    with pytest.raises(RunDirectoryError, match="no checkpoint at step 7"):
        mm.load(tiny_run.run.path, step=7)


def test_strangers_among_the_checkpoints_are_left_alone(copy):
    for name in ("step_x.safetensors", "step_9.safetensors.tmp", "notes.txt"):
        (copy / "checkpoints" / name).write_text("x")
    assert Run(copy).checkpoint_steps() == [0, 1, 5, 30]


def test_nothing_that_is_loaded_can_execute_code(tiny_run):
    for file in tiny_run.run.path.rglob("*"):
        if file.is_file() and "twins" not in file.parts:
            assert file.suffix in (".json", ".jsonl", ".safetensors", ".bits")
            assert not re.match(rb"\x80[\x02-\x05]", file.read_bytes())


@pytest.mark.slow
def test_a_temporary_run_lives_as_long_as_it_is_used(tiny_config):
    import gc

    subject = mm.train(tiny_config, progress=False)
    path = subject.run.path
    assert len(subject.run.rows()) == 7
    retrainer = subject.retrainer
    del subject
    gc.collect()
    assert path.exists()
    del retrainer
    gc.collect()
    assert not path.exists()


def test_only_a_config_is_trained():
    with pytest.raises(ConfigError, match="config must be an mm.TrainConfig.*got a dict"):
        mm.train({"p": 5})


@pytest.mark.parametrize("which", ["the labels", "one pixel"])
def test_other_data_under_the_same_name_are_noticed(which, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (60, 4, 4), dtype=np.uint8)
    labels = np.arange(60) % 3
    mm.ImageData.from_arrays(images, labels).save(tmp_path / "data.npz")
    task = mm.ImageConfig(str(tmp_path / "data.npz"), train=30, test=20)
    config = mm.TrainConfig(task=task, model=mm.ImageMLPConfig(widths=(4,)), steps=2)
    mm.train(config, out=tmp_path / "run", progress=False)
    if which == "one pixel":
        images[7, 1, 2] ^= 1
    mm.ImageData.from_arrays(images, labels if which == "one pixel" else (labels + 1) % 3).save(tmp_path / "data.npz")
    for use in (mm.load, lambda out: mm.train(config, out=out, progress=False)):
        with pytest.raises(RunDirectoryError, match="its data have changed since"):
            use(tmp_path / "run")


def test_an_earlier_checkpoint_opens_though_the_last_is_gone(copy):
    (copy / "checkpoints/step_30.safetensors").unlink()
    assert mm.load(copy, step=0).retrainer.steps == 0


def test_a_run_of_a_newer_version_is_said_to_be_one(copy):
    for change in (config(hyperdrive=1), header(format=2)):
        values = json.loads((copy / "config.json").read_text())
        values["versions"]["mechmem"] = "9.0"
        (copy / "config.json").write_text(json.dumps(values))
        change(copy)
        with pytest.raises(RunDirectoryError, match=r"written by mechmem 9\.0; this is"):
            mm.load(copy)


def test_of_processes_that_begin_at_once_one_trains(tiny_config, tmp_path):
    """All meet where each has found the directory empty, and the others are refused."""
    out, found, met = tmp_path / "run", [], threading.Barrier(3)

    def train():
        try:
            mm.train(tiny_config, out=out, progress=False)
            found.append("trained")
        except RunDirectoryError as error:
            found.append(str(error))

    def together(*settings):
        met.wait()
        return original(*settings)

    original = training.build_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "build_model", together)
        threads = [threading.Thread(target=train) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert found.count("trained") >= 1
    assert {each for each in found if each != "trained"} <= {f"{out} is being written by another process"}
    mm.train(tiny_config, out=tmp_path / "alone", progress=False)
    assert contents(out) == contents(tmp_path / "alone")


@pytest.mark.parametrize("count", range(1, 12))
def test_a_kill_before_a_file_is_renamed_neither_blocks_nor_stays(count, tiny_config, tiny_run, tmp_path):
    class Killed(BaseException):
        pass

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        stop_at(patch, Path, "replace", count, Killed())
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # nothing is tidied up after a kill
        mm.train(tiny_config, out=out, progress=False)
    assert [path for path in out.rglob(".*")]
    mm.train(tiny_config, out=out, progress=False)
    assert not [path for path in out.rglob(".*")]
    assert mm.load(out).run.rows() == tiny_run.run.rows()
