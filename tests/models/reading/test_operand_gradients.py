import dataclasses

import pytest
import torch
from planted_algorithms import Clock, subject_of
from torch.nn.functional import one_hot

import mechmem as mm
from mechmem.errors import ActivationError, MissingNeedError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.operand_gradients import ONE_HOT, _batches, operand_gradients
from mechmem.scorecard.controls import LogitTable

P = 7


def mlp(**settings):
    task = mm.ModularTask(mm.ModularConfig(p=P, train_fraction=0.6))
    model = HookedMLP(mm.MLPConfig(width=9, **settings), P, seed=1).double()
    return mm.Subject(model, task, model.roles)


def sample(draw, n=60):
    return torch.randint(P * P, (n,), generator=draw), torch.randint(P, (n,), generator=draw)


def test_of_an_mlp_they_are_those_of_a_dense_network_on_one_hot_inputs(draw):
    subject = mlp()
    ids, classes = sample(draw)
    found = operand_gradients(subject, ids, classes)
    u, v = subject.roles.input_embedding.read(subject.model)
    w = subject.roles.readout.read(subject.model)
    a, b = one_hot(subject.task.operands[ids], P).double().unbind(1)
    a.requires_grad_(), b.requires_grad_()
    logits = torch.relu(a @ u + b @ v) @ w
    expected = torch.autograd.grad(logits[torch.arange(len(ids)), classes].sum(), (a, b))
    assert found.space == ONE_HOT
    torch.testing.assert_close(found.first, expected[0])
    torch.testing.assert_close(found.second, expected[1])


def test_at_a_point_they_are_finite_differences(draw):
    subject = subject_of(Clock(P, [1, 2]), P)
    ids, classes = sample(draw, 5)
    found = operand_gradients(subject, ids, classes)
    assert found.space == "hook_embed"
    embedded, h = subject.model.E.detach()[subject.task.operands[ids]], 1e-6

    def logit(held):
        (xa, ya), (xb, yb) = (held[:, place].unflatten(1, (2, -1)).unbind(1) for place in (0, 1))
        angle = 2 * torch.pi * classes[:, None].double() * torch.tensor([1, 2]) / P
        return ((xa * xb - ya * yb) * angle.cos() + (xa * yb + ya * xb) * angle.sin()).sum(1)

    for place, gradient in enumerate((found.first, found.second)):
        for dim in range(4):
            step = torch.zeros_like(embedded)
            step[:, place, dim] = h
            torch.testing.assert_close(gradient[:, dim], (logit(embedded + step) - logit(embedded - step)) / (2 * h))


def test_frozen_and_training_networks_are_left_as_they_were(draw):
    for subject in (mlp(), subject_of(Clock(P, [1]), P)):
        subject.model.requires_grad_(False).train()
        operand_gradients(subject, *sample(draw, 4))
        assert subject.model.training
        for parameter in subject.model.parameters():
            assert parameter.grad is None and not parameter.requires_grad


def test_no_operand_occurs_twice_in_a_batch(draw):
    pairs = torch.randint(5, (80, 2), generator=draw)
    batch = _batches(pairs)
    for number in batch.unique():
        for column in pairs[batch == number].unbind(1):
            assert len(column.unique()) == len(column)
    assert int(batch.max()) < 60


def test_what_cannot_be_differentiated_says_so(draw):
    ids, classes = sample(draw, 3)
    with pytest.raises(MissingNeedError, match="share one input embedding"):
        operand_gradients(mlp(tied=True), ids, classes)
    task = mlp().task
    table = mm.Subject(LogitTable(torch.zeros(P * P, P), task), task)
    with pytest.raises(MissingNeedError, match="no point holds"):
        operand_gradients(table, ids, classes)
    with pytest.raises(UnknownNameError, match="hook_hidden"):
        operand_gradients(mlp(), ids, classes, "hook_embed")
    with pytest.raises(ActivationError, match="not \\(example, position, dimension\\)"):
        operand_gradients(mlp(), ids, classes, "hook_hidden")
    with pytest.raises(ActivationError, match="positions"):
        operand_gradients(subject_of(Clock(P, [1]), P), ids, classes, positions=(0, 2))


def test_logits_that_do_not_depend_on_the_point_say_so(draw):
    class Cut(Clock):
        def forward(self, pairs):
            return super().forward(pairs).detach()

    with pytest.raises(MissingNeedError, match="no gradient reaches 'hook_embed'"):
        operand_gradients(subject_of(Cut(P, [1]), P), *sample(draw, 3))


def test_one_hot_gradients_need_a_vector_per_operand_and_symbol(draw):
    subject = mlp()
    role = dataclasses.replace(subject.roles.input_embedding, pattern="(operand p) neuron -> operand neuron p")
    broken = dataclasses.replace(subject, roles=dataclasses.replace(subject.roles, input_embedding=role))
    with pytest.raises(ValueError, match="must read as \\(2, 7, neurons\\)"):
        operand_gradients(broken, *sample(draw, 3))
