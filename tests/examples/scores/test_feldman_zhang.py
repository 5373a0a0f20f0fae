"""A planted outlier is memorized, and a copied easy example is not."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import torch
from plugin_names import example_score

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.examples.scores.feldman_zhang import FeldmanZhang
from mechmem.tasks.image_data import ImageData
from mechmem.tasks.relabelled import RelabelledTask
from mechmem.training import subsets as mm_subsets

WRONG, COPIES = 4, (10, 11, 12)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Images that are bright at one of two pixels, as their class; one shows a pixel of its own, and a wrong label."""
    draw = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = draw.integers(0, 25, (60, 9)).astype(np.uint8)
    images[np.arange(60), labels] += 200
    images[WRONG, 8] = 250
    labels[WRONG] = 1 - labels[WRONG]
    images[list(COPIES)], labels[list(COPIES)] = images[10], labels[10]
    folder = tmp_path_factory.mktemp("planted")
    ImageData.from_arrays(images.reshape(60, 3, 3), labels, n_test=20).save(folder / "planted.npz")
    config = mm.TrainConfig(
        task=mm.ImageConfig(data=str(folder / "planted.npz")),
        model=mm.ImageMLPConfig((16,)),
        optimizer="adam",
        weight_decay=0.0,
        lr=0.02,
        steps=100,
        evaluations=2,
        checkpoints=1,
    )
    return mm.train(config, out=folder / "run", progress=False)


def test_a_wrong_label_is_memorized_and_a_copied_example_is_not(planted):
    found = example_score("feldman_zhang")(planted)
    assert found.suspect == "high" and torch.equal(found.ids, planted.task.sources)
    place = {int(each): number for number, each in enumerate(found.ids)}
    assert found.values[place[WRONG]] > 0.9 and found.most(1).tolist() == [WRONG]
    assert found.values.abs()[[place[each] for each in COPIES]].max() < 0.05
    assert re.fullmatch(r"32 networks, mean standard error 0\.\d{3}", found.note)


@pytest.fixture
def own_run(tiny_run, tmp_path):
    """A copy of the tiny run, for networks to be kept in."""
    return mm.load(shutil.copytree(tiny_run.run.path, tmp_path / "run"))


def test_it_is_what_networks_on_subsets_answer_and_is_kept(planted, own_run, monkeypatch):
    found = FeldmanZhang(networks=6, fraction=0.5, seed=2)(own_run)
    config = own_run.run.config
    networks = mm_subsets.train_subsets(config, networks=6, fraction=0.5, seed=2, progress=False)
    assert torch.equal(found.values, networks.memorization().values)
    assert len(found.values.unique()) > 3 and found.score == "feldman_zhang(networks=6,fraction=0.5,seed=2)"
    monkeypatch.setattr(mm_subsets.SubsetTrainer, "stack", lambda *_: pytest.fail("trained again"))
    assert torch.equal(FeldmanZhang(networks=6, fraction=0.5, seed=2)(own_run).values, found.values)


def test_networks_take_as_many_steps_as_the_run_did(tiny_config, tmp_path):
    stopped = dataclasses.replace(tiny_config, stop_when="train_clean >= 0")
    subject = mm.train(stopped, out=tmp_path / "run", progress=False)
    steps = subject.run.finished()["step"]
    assert steps < 30
    FeldmanZhang(networks=2)(subject)
    (plan,) = subject.run.path.glob("subsets/*/plan.json")
    assert json.loads(plan.read_text())["config"]["steps"] == steps


def test_examples_that_cannot_be_known_are_said(own_run):
    found = FeldmanZhang(networks=2)(own_run)
    unknown = int(re.search(r"; (\d+) examples in every or no subset are set to 0", found.note)[1])
    assert 0 < unknown < len(found.ids) and int((found.values == 0).sum()) >= unknown


def test_what_it_needs(own_run, monkeypatch):
    monkeypatch.setattr(mm_subsets.SubsetTrainer, "stack", lambda *_: pytest.fail("trained first"))
    with pytest.raises(MissingNeedError, match="needs retrainer, run"):
        FeldmanZhang()(dataclasses.replace(own_run, run=None, retrainer=None))
    with pytest.raises(MissingNeedError, match="trained from a config"):
        FeldmanZhang()(dataclasses.replace(own_run, retrainer=object()))
    other = RelabelledTask(own_run.task, 0 * own_run.task.given(own_run.task.train_ids))
    with pytest.raises(MissingNeedError, match="the subject's differs"):
        FeldmanZhang(networks=2)(dataclasses.replace(own_run, task=other))
    for settings in ({"networks": 1}, {"fraction": 0}, {"fraction": 1.0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            FeldmanZhang(**settings)
