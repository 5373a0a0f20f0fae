"""Shared activations: a planted rule is recovered, the filter equals its formula, and every kind of network is read."""

import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.additive import additive_residual
from mechmem.models.reading.shared_vectors import shared_vectors
from mechmem.scorecard.readouts.shared_activations import _filtered

P = 17


@pytest.fixture(scope="module")
def noisy():
    """A rule in 400 neurons under noise in every weight of 1.5 times their size."""
    planted = mm.planted_network(P, width=400, seed=2).subject
    model, draw = planted.copy_model(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in model.parameters():
            each += 1.5 * each.std() * torch.randn(each.shape, generator=draw)
    return planted.with_model(model)


def read(subject, name):
    ids = subject.task.test_ids
    return float((mm.extractor(name)(subject)(ids).argmax(1) == subject.task.true(ids)).double().mean())


def test_a_rule_is_recovered_and_its_control_recovers_less(noisy):
    name = "shared_activations(clusters=8)"
    control = mm.extractor(name).control()
    assert control.name == "shared_activations(clusters=8,shuffled=True)" and control.control() is None
    assert read(noisy, "raw") < 0.35 and read(noisy, name) > 0.7
    assert read(noisy, control.name) < 0.8 * read(noisy, name)


def test_the_additive_effects_are_those_of_additive_free(noisy):
    ids, operands = noisy.task.test_ids, noisy.task.operands[noisy.task.rows(noisy.task.test_ids)]
    plain = mm.extractor("shared_activations(clusters=8,residual=False)")(noisy)(ids)
    wanted = additive_residual(plain, operands, P)
    torch.testing.assert_close(mm.extractor("shared_activations(clusters=8)")(noisy)(ids), wanted)


def test_each_neuron_is_filtered_over_both_operands(noisy):
    found = shared_vectors(noisy, clusters=8)
    grid = _filtered(noisy, "hook_hidden", found)
    task = noisy.task
    held = mm.activations(noisy, "hook_hidden", ids=task.ids)["hook_hidden"].double()
    own = torch.empty(P, P, held.shape[1], dtype=torch.float64)
    own[tuple(task.operands.T)] = held
    centre = torch.eye(P, dtype=torch.float64) - 1 / P
    filters = {name: {} for name in "uv"}
    for name in "uv":
        for members, kept in found.filters(name):
            filters[name] |= dict(zip(members.tolist(), centre @ kept @ centre + 1 / P, strict=True))
    for neuron in (0, 7, 250):
        wanted = filters["u"][neuron] @ own[..., neuron] @ filters["v"][neuron].T
        torch.testing.assert_close(grid[..., neuron].double(), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("model", [mm.TransformerConfig(d_model=16, heads=2), mm.MLPConfig(width=40, layers=2)])
def test_transformers_and_deeper_networks_are_reached(model):
    run = mm.train(mm.TrainConfig(mm.ModularConfig(p=5), model, steps=5, evaluations=1), progress=False)
    predicted = mm.extractor("shared_activations(clusters=2)")(run)(run.task.test_ids)
    assert predicted.shape == (len(run.task.test_ids), 5) and predicted.isfinite().all()
    assert mm.discover_rule(run).extractor == "shared_activations"


def test_a_dead_neuron_keeps_its_mean(noisy):
    model = noisy.copy_model()
    with torch.no_grad():
        model.W_out[:2] = 0.5
    subject = noisy.with_model(model)
    grid = _filtered(subject, "hook_hidden", shared_vectors(subject, clusters=8))
    assert (grid[..., 0] == grid[0, 0, 0]).all() and grid[..., 5].std() > 0


def test_a_task_without_every_pair_is_refused(noisy):
    task = noisy.task
    train = torch.zeros(P * P, dtype=torch.bool)
    train[task.train_ids] = True
    labels = task.true(task.ids)
    part = mm.ArrayTask(task.operands[1:], labels[1:], labels[1:], train[1:])
    with pytest.raises(MissingNeedError, match="every pair of 17"):
        mm.extractor("shared_activations")(dataclasses.replace(noisy, task=part))
    with pytest.raises(ConfigError, match="clusters"):
        mm.extractor("shared_activations(clusters=1)")


def test_names_of_symbols_do_not_matter_to_what_neurons_share():
    """Symbols that occur nowhere have no mean activation; as 0 it would be a direction of all neurons."""

    class Counted(torch.nn.Module):
        """A deeper network whose operands begin at a number."""

        def __init__(self, first):
            super().__init__()
            draw = torch.Generator().manual_seed(0)
            self.first, self.table = first, torch.nn.Parameter(torch.randn(10, 24, generator=draw))
            self.deeper, self.out = torch.nn.Linear(24, 24), torch.nn.Linear(24, 5)
            with torch.no_grad():
                for each in (self.deeper.weight, self.deeper.bias, self.out.weight, self.out.bias):
                    each.copy_(torch.randn(each.shape, generator=draw) / 5)
            self.act = torch.nn.ReLU()

        def forward(self, pairs):
            a, b = (pairs - self.first).T
            return self.out(self.act(self.deeper(torch.relu(self.table[a] + self.table[b + 5]))))

    def shared(first):
        pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5)) + first
        labels = pairs.sum(1) % 5
        task = mm.ArrayTask(pairs, labels, labels, torch.arange(25) % 4 > 0)
        roles = mm.Roles(hidden=("act",), readout=mm.Role("out.weight", "class neuron -> neuron class"))
        subject = mm.Subject(mm.attach(Counted(first)), task, dataclasses.replace(roles, hidden=("act.hook_out",)))
        return mm.neuron_scores(subject, ["shared_energy(clusters=2)"])["shared_energy(clusters=2)"].values

    assert torch.equal(shared(0), shared(3))
