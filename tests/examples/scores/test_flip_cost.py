"""Costs on planted networks, and against a plain greedy search with autograd."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from plugin_names import example_score

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.errors import ConfigError, MissingNeedError, UnknownNameError
from mechmem.examples.scores import flip_cost
from mechmem.models.reading.linear_readout import linear_readout


def by_autograd(subject, others, most):
    """The reference: one example at a time, gates on the neurons, gradients by autograd."""
    readout, given = linear_readout(subject), subject.task.given(subject.task.ids)
    rows = subject.task.rows(subject.task.sources)
    drawn = rows[torch.randperm(len(rows), generator=generator(0, "flip cost"))[:others]]
    costs = []
    for example in rows.tolist():
        spared_rows = drawn[drawn != example]
        gone = []
        gate = torch.ones(len(readout.weights), dtype=torch.float64)
        while True:
            if int(((gate * readout.hidden[example]) @ readout.weights).argmax()) != int(given[example]):
                costs.append(len(gone))
                break
            if len(gone) == most:
                costs.append(torch.inf)
                break
            free = gate.clone().requires_grad_()
            own = (free * readout.hidden[example]) @ readout.weights
            spared = (free * readout.hidden[spared_rows]) @ readout.weights
            objective = -F.cross_entropy(own, given[example])
            if len(spared_rows):
                objective = objective + F.cross_entropy(spared, given[spared_rows])
            (slope,) = torch.autograd.grad(objective, free)
            slope[gone] = -torch.inf
            gone.append(int(slope.argmax()))
            gate[gone[-1]] = 0
    return torch.tensor(costs, dtype=torch.float64)


@pytest.fixture(scope="module")
def fitted():
    """Neither all of it is fitted nor is all that is fitted flipped by a few neurons."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.7, noise=mm.LabelNoise(0.4)),
        model=mm.MLPConfig(width=48),
        steps=30,
        lr=0.01,
        evaluations=1,
        checkpoints=1,
    )
    run = mm.train(config, progress=False)
    return mm.Subject(run.model.double(), run.task, run.roles)


def test_a_planted_memorized_cell_hangs_on_one_neuron_and_a_general_one_on_many(planted):
    """Unless it lies in the row or column of a memorized one, whose two neurons balance each other."""
    found = example_score("flip_cost")(planted.subject)
    memorized = torch.isin(found.ids, torch.as_tensor(planted.cells))
    assert (found.values[memorized] == 1).all() and found.values[~memorized].median() > 4
    assert found.suspect == "low" and "fitted examples flipped within 16 removals" in found.note


@pytest.mark.parametrize(("others", "most"), [(9, 5), (100, 3), (1, 4)])
def test_equals_a_search_one_by_one(fitted, others, most, monkeypatch):
    wanted = by_autograd(fitted, others, most)
    assert {0, torch.inf} < set(wanted.tolist()) and len(wanted.unique()) > 3, "every fate should occur"
    name = f"flip_cost(others={others},most={most})"
    found = example_score(name)(fitted)
    assert torch.equal(found.values, wanted)
    n, of = int(((wanted > 0) & (wanted < torch.inf)).sum()), int((wanted > 0).sum())
    assert found.note == f"{n} of {of} fitted examples flipped within {most} removals"
    monkeypatch.setattr(flip_cost, "BLOCK_ELEMENTS", 900)
    assert torch.equal(example_score(name)(dataclasses.replace(fitted)).values, wanted)


@pytest.mark.parametrize("others", [1, 9])
def test_running_the_network_gives_the_same(fitted, others, monkeypatch):
    wanted = example_score(f"flip_cost(others={others},most=4)")(fitted).values
    monkeypatch.setattr(flip_cost, "flipping_readout", lambda *_: (None, "run"))
    monkeypatch.setattr(flip_cost, "block_rows", lambda _model: 4)
    found = example_score(f"flip_cost(others={others},most=4)")(fitted)
    assert torch.equal(found.values, wanted) and found.note.endswith("; run")


def test_nothing_fitted_costs_nothing(planted):
    task = planted.subject.task
    train = torch.isin(task.ids, task.train_ids)
    given = (planted.subject.model(task.batch(task.ids)[0]).argmax(1) + 1) % 7
    arrays = mm.ArrayTask(task.operands, given, task.true(task.ids), train, operands=task.operands, n_classes=7)
    found = example_score("flip_cost")(dataclasses.replace(planted.subject, task=arrays))
    assert not found.values.any() and found.note == "no training example is fitted"


def test_channels_of_images_and_what_is_refused(planted):
    task = mm.ImageConfig(train=30, test=20)
    run = mm.train(mm.TrainConfig(task, mm.CNNConfig((4, 5)), steps=60, lr=0.01, checkpoints=1), progress=False)
    found = example_score("flip_cost(others=5,most=4,point=layers.0.hook_hidden,units=channel)")(run)
    assert "running the network without channels" in found.note and found.values.isfinite().any()
    with pytest.raises(ConfigError, match='units="channel"'):
        example_score("flip_cost(point=layers.0.hook_hidden)")(run)
    with pytest.raises(MissingNeedError, match="role:hidden"):
        example_score("flip_cost")(dataclasses.replace(planted.subject, roles=mm.Roles()))
    with pytest.raises(UnknownNameError, match="hook point"):
        example_score("flip_cost(point=nowhere)")(planted.subject)
