"""Flipping sets on planted networks, and against a plain greedy search with autograd."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from plugin_names import score

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.errors import MissingNeedError
from mechmem.models.reading.linear_readout import linear_readout


def sample(subject, examples, others, seed):
    """Rows of fitted noisy examples, and of other training examples, as the score draws them."""
    task, readout = subject.task, linear_readout(subject)
    noisy = task.rows(task.splits["train_noisy"])
    fitted = noisy[readout.logits[noisy].argmax(1) == task.given(task.ids)[noisy]]
    draw = generator(seed, "neuron flipping")
    chosen = fitted[torch.randperm(len(fitted), generator=draw)[:examples]]
    rest = task.rows(task.train_ids)
    rest = rest[~torch.isin(rest, chosen)]
    return chosen, rest[torch.randperm(len(rest), generator=draw)[:others]]


def by_autograd(subject, chosen, others, most):
    """The reference: one example at a time, gates on the neurons, gradients by autograd."""
    readout = linear_readout(subject)
    given = subject.task.given(subject.task.ids)
    sets, lost = [], []
    fitted = readout.logits[others].argmax(1) == given[others]
    for example in chosen.tolist():
        gate = torch.ones(len(readout.weights), dtype=torch.float64)
        gone = []
        while len(gone) < most:
            free = gate.clone().requires_grad_()
            own = (free * readout.hidden[example]) @ readout.weights
            spared = (free * readout.hidden[others]) @ readout.weights
            objective = F.cross_entropy(spared, given[others]) - F.cross_entropy(own, given[example])
            (slope,) = torch.autograd.grad(objective, free)
            slope[gone] = -torch.inf
            gone.append(int(slope.argmax()))
            gate[gone[-1]] = 0
            if int(((gate * readout.hidden[example]) @ readout.weights).argmax()) != int(given[example]):
                sets.append(set(gone))
                spared = ((gate * readout.hidden[others]) @ readout.weights).argmax(1)
                lost.append(float(((spared != given[others]) & fitted).sum() / fitted.sum()))
                break
        else:
            sets.append(set())
    return sets, sum(lost) / max(1, len(lost))


def test_the_neurons_planted_for_each_cell_are_its_flipping_set(planted):
    found = score("neuron_flipping")(planted.subject)
    firing = planted.memorizing.nonzero().flatten()[::2]
    wanted = torch.zeros(len(found.values), dtype=torch.float64)
    wanted[firing] = 1 / len(planted.cells)
    assert torch.allclose(found.values, wanted)
    assert f"{len(planted.cells)} of {len(planted.cells)} sampled examples flipped, 1.0 neurons each" in found.note


def test_collateral_is_counted(planted):
    """The second neuron of a planted pair, left alone, can turn the cells of its row and column."""
    chosen, others = sample(planted.subject, 64, 256, seed=0)
    _, lost = by_autograd(planted.subject, chosen, others, 16)
    assert 0 < lost < 0.1
    assert f"{lost:.1%} of {len(others)} others lost" in score("neuron_flipping")(planted.subject).note


@pytest.mark.parametrize("most", [5, 12])
def test_equals_a_search_one_by_one(most, monkeypatch):
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.7, noise=mm.LabelNoise(0.4)),
        model=mm.MLPConfig(width=48),
        steps=250,
        lr=0.01,
        evaluations=1,
        checkpoints=1,
    )
    run = mm.train(config, progress=False)
    subject = mm.Subject(run.model.double(), run.task, run.roles)
    chosen, others = sample(subject, 6, 9, seed=2)
    sets, lost = by_autograd(subject, chosen, others, most)
    sizes = [len(each) for each in sets if each]
    assert len(chosen) == 6 and max(sizes) > 1 and (len(sizes) == 6) == (most == 12), "both fates should occur"
    wanted = torch.tensor([sum(m in each for each in sets) / 6 for m in range(48)], dtype=torch.float64)
    name = f"neuron_flipping(examples=6,others=9,most={most},seed=2)"
    found = score(name)(subject)
    assert torch.allclose(found.values, wanted)
    assert found.note.startswith(f"{len(sizes)} of 6 sampled examples flipped, {sum(sizes) / len(sizes):.1f} neurons")
    assert f"{lost:.1%} of 9 others lost" in found.note
    # A few examples at a time give the same.
    monkeypatch.setattr("mechmem.neurons.scores.neuron_flipping.BLOCK_ELEMENTS", 700)
    assert torch.allclose(score(name)(dataclasses.replace(subject)).values, wanted)


def test_without_known_noise_all_fitted_examples_can_be_sampled(planted):
    assert score("neuron_flipping").told() == {"given_labels", "noise_mask"}
    assert score("neuron_flipping(among=train)").told() == {"given_labels"}
    task = planted.subject.task
    train = torch.isin(task.ids, task.train_ids)
    unknown = torch.where(train, -1, task.true(task.ids))
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, operands=task.operands, n_classes=7)
    blind = dataclasses.replace(planted.subject, task=arrays)
    with pytest.raises(MissingNeedError, match="among=train"):
        score("neuron_flipping")(blind)
    assert "sampled examples flipped" in score("neuron_flipping(among=train,most=2)")(blind).note


def test_nothing_memorized_is_refused():
    clean = mm.planted_network(7)
    with pytest.raises(MissingNeedError, match="needs fitted examples"):
        score("neuron_flipping")(clean.subject)


def test_with_no_others_to_spare(planted):
    """A training set of one example leaves no other."""
    task = planted.subject.task
    train = task.ids == planted.cells[0]
    arrays = mm.ArrayTask(
        task.operands, task.given(task.ids), task.true(task.ids), train, operands=task.operands, n_classes=7
    )
    found = score("neuron_flipping")(dataclasses.replace(planted.subject, task=arrays))
    assert int((found.values > 0).sum()) == 1 and "0 others" in found.note
