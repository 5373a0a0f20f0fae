import dataclasses

import pytest
import scipy.stats
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.tasks.config import TaskConfig
from mechmem.training.train import ConfigRetrainer


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_config):
    return mm.train(tiny_config, out=tmp_path_factory.mktemp("twins") / "run", progress=False)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_the_untrained_twin_is_step_zero(run):
    assert same(run.retrainer.twin("untrained"), run.run.model_at(0))
    assert same(mm.load(run.run.path).retrainer.twin("untrained"), run.run.model_at(0))


def test_the_one_step_twin_is_step_one(run):
    assert same(run.retrainer.twin("one_step"), run.run.model_at(1))


def test_the_noise_only_twin_is_trained_once(run, monkeypatch):
    first = run.retrainer.twin("noise_only")
    assert not same(first, run.model)
    monkeypatch.setattr("mechmem.training.train.optimize", lambda *_a, **_k: pytest.fail("trained again"))
    assert same(run.retrainer.twin("noise_only"), first)
    assert same(mm.load(run.run.path).retrainer.twin("noise_only"), first)


def test_a_twin_may_be_trained_before_its_network(run, tiny_config, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    retrainer = ConfigRetrainer(tiny_config, tiny_config.steps, out / "twins", threads=torch.get_num_threads())
    first = retrainer.twin("noise_only")
    later = mm.train(tiny_config, out=out, progress=False)
    assert same(later.model, run.model) and same(later.retrainer.twin("noise_only"), first)
    assert len(list((out / "twins").iterdir())) == 1


def test_twins_are_trained_on_as_many_threads_as_their_network(run):
    count = torch.get_num_threads()
    try:
        torch.set_num_threads(count + 1)
        run.retrainer.twin("noise_only")
        mm.load(run.run.path).retrainer.twin("noise_only")
    finally:
        torch.set_num_threads(count)
    assert len(list((run.run.path / "twins").glob("noise_only-*"))) == 1


def test_the_clean_label_twin_is_trained_on_true_labels(run):
    twin = run.retrainer.twin("clean_labels")
    folder = next((run.run.path / "twins").glob("clean_labels-*"))
    task = mm.load(folder).task
    assert torch.equal(task.train_ids, run.task.train_ids) and not task.noisy.any() and run.task.noisy.any()
    assert same(mm.load(folder).run.model_at(0), run.run.model_at(0)) and not same(twin, run.model)


@pytest.mark.parametrize(
    ("noise", "kind"), [(mm.LabelNoise(1.0, "any"), "noise_only"), (mm.LabelNoise(), "clean_labels")]
)
def test_a_network_that_is_its_own_twin_has_none(noise, kind, tiny_config, tmp_path):
    task = dataclasses.replace(tiny_config.task, noise=noise)
    subject = mm.train(dataclasses.replace(tiny_config, task=task, steps=1), out=tmp_path / "run", progress=False)
    with pytest.raises(MissingNeedError, match="the network itself has only"):
        subject.retrainer.twin(kind)


def test_the_cell_of_a_noise_only_network_says_so(tiny_config, tmp_path):
    task = dataclasses.replace(tiny_config.task, noise=mm.LabelNoise(1.0, "any"))
    subject = mm.train(dataclasses.replace(tiny_config, task=task, steps=1), out=tmp_path / "run", progress=False)
    cell = mm.audit(subject, "raw").rows[0].controls["noise_only"]
    assert cell.estimate is None and "the network itself has only random labels" in cell.reason


def test_twins_start_where_the_run_did_and_take_as_many_steps(run):
    run.retrainer.twin("noise_only")
    folder = next((run.run.path / "twins").glob("noise_only-*"))
    twin = mm.load(folder)
    assert same(twin.run.model_at(0), run.run.model_at(0))
    assert twin.run.finished()["step"] == 30
    expected = dataclasses.replace(run.run.config.task, noise=mm.LabelNoise(1.0, "any"))
    assert twin.run.config.task == expected
    assert torch.equal(twin.task.train_ids, run.task.train_ids)


def test_other_settings_make_another_twin(run, tmp_path):
    retrainer = dataclasses.replace(run.retrainer, folder=tmp_path)
    retrainer.twin("noise_only")
    dataclasses.replace(retrainer, steps=5).twin("noise_only")
    assert len(list(tmp_path.iterdir())) == 2


def test_labels_of_the_noise_only_twin_know_nothing_of_the_truth():
    task = mm.ModularTask(mm.ModularConfig(p=59, noise=mm.LabelNoise(1.0, "any")))
    given, true = task.given(task.train_ids), task.true(task.train_ids)
    n = len(given)
    assert scipy.stats.binomtest(int((given == true).sum()), n, 1 / 59).pvalue > 1e-3
    shift = torch.bincount((given - true) % 59, minlength=59)
    assert scipy.stats.chisquare(shift.numpy()).pvalue > 1e-3
    operands = task.operands[task.train_ids]
    for slope in range(1, 6):
        counts = torch.bincount((given - operands[:, 0] - slope * operands[:, 1]) % 59, minlength=59)
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("kind", ["wrong", "any", "symmetric"])
def test_nor_of_the_labels_of_the_run(kind):
    config = mm.ModularConfig(p=59, noise=mm.LabelNoise(1.0, kind))
    task, twin = mm.ModularTask(config), mm.ModularTask(dataclasses.replace(config, noise=mm.LabelNoise(1.0, "any")))
    if kind == "any":
        return
    agree = int((task.given(task.train_ids) == twin.given(task.train_ids)).sum())
    assert scipy.stats.binomtest(agree, len(task.train_ids), 1 / 59).pvalue > 1e-3


@pytest.mark.parametrize(
    "given, wanted",
    [("wrong", "any"), ("any", "any"), ("bijective", "any"), ("symmetric", "symmetric_any")]
    + [("symmetric_any", "symmetric_any")],
)
def test_the_null_of_symmetric_noise_is_symmetric(given, wanted):
    config = mm.ModularConfig(p=59, train_fraction=0.6, noise=mm.LabelNoise(0.2, given), seed=3)
    assert config.noise_only() == dataclasses.replace(config, noise=mm.LabelNoise(1.0, wanted))


def test_a_task_without_label_noise_has_no_such_twin(run):
    @dataclasses.dataclass(frozen=True)
    class Images(TaskConfig):
        pass

    retrainer = ConfigRetrainer(dataclasses.replace(run.run.config, task=Images()), steps=3, folder=run.run.path)
    with pytest.raises(MissingNeedError, match="a Images has no label noise to replace"):
        retrainer.twin("noise_only")
