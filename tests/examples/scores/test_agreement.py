"""Twins whose answers are planted, and a run's own."""

import dataclasses

import pytest
import torch
from held_layers import HeldLayers, held
from plugin_names import example_score

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError

GIVEN = torch.tensor([0, 1, 2, 0, 1])
TRAIN = torch.arange(5) < 4


class Others:
    """A retrainer whose networks of other seeds answer what a test says."""

    def __init__(self, *answers):
        self.answers = answers

    def retrained(self, *, without=None, seed=None, progress=False):
        return HeldLayers(torch.eye(3)[torch.tensor(self.answers[seed - 1000])], torch.zeros(5, 1))


def test_the_share_of_networks_that_answer_as_this_one_does_right_or_wrong():
    own = torch.eye(3)[torch.tensor([0, 1, 0, 0, 1])]
    retrainer = Others([0, 2, 0, 0, 1], [0, 1, 2, 1, 1], [0, 1, 2, 2, 1], [0, 1, 2, 2, 1])
    found = example_score("agreement")(held(GIVEN, GIVEN, TRAIN, torch.zeros(5, 1), logits=own, retrainer=retrainer))
    assert found.values.tolist() == [1, 0.75, 0.25, 0.25]
    assert found.suspect == "low" and found.most(1).tolist() == [2] and "4 networks" in found.note


def test_a_run_trains_its_twins_and_finds_them_again(tmp_path, tiny_config):
    run = mm.train(dataclasses.replace(tiny_config, steps=12), out=tmp_path / "run", progress=False)
    found = example_score("agreement(count=2)")(run)
    own = run.model(run.task.batch(run.task.sources)[0]).argmax(1)
    seeds = [dataclasses.replace(run.run.config, seed=seed) for seed in (1000, 1001)]
    twins = [mm.train(config, progress=False).model for config in seeds]
    answers = torch.stack([twin(run.task.batch(run.task.sources)[0]).argmax(1) for twin in twins])
    assert torch.equal(found.values, (answers == own).double().mean(0)) and len(found.values.unique()) > 1
    again = example_score("agreement(count=2)")(mm.load(tmp_path / "run"))
    assert torch.equal(again.values, found.values) and len(list((tmp_path / "run" / "twins").iterdir())) == 2


def test_the_network_itself_is_not_among_the_others(tiny_config):
    config = dataclasses.replace(tiny_config, steps=12, seed=1000)
    found = example_score("agreement(count=1)")(mm.train(config, progress=False))
    other = example_score("agreement(count=1)")(mm.train(dataclasses.replace(config, seed=1001), progress=False))
    # Of seeds 1000 and 1001 each is the other's.
    assert torch.equal(found.values, other.values) and float(found.values.min()) == 0


def test_what_is_missing_is_said(tiny_run):
    with pytest.raises(MissingNeedError, match="needs retrainer"):
        example_score("agreement")(mm.Subject(tiny_run.model, tiny_run.task))
    with pytest.raises(ConfigError, match="number of networks"):
        example_score("agreement(count=0)")
