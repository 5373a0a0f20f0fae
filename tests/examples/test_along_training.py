"""Influence along training, against gradients of single examples and the loss that training took away."""

import itertools

import pytest
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.examples.along_training import MOST_STATES, influence_along_training
from mechmem.training.evaluate import loss_of


def trained(model=(), **settings):
    """A run whose every state is saved, as far as the sum reads them."""
    config = mm.TrainConfig(
        mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)),
        mm.MLPConfig(width=12, **dict(model)),
        **{"steps": 8, "checkpoints": 9, "optimizer": "sgd", "momentum": 0.0, "lr": 0.05, "weight_decay": 0.0}
        | settings,
    )
    return mm.train(config, progress=False)


def losses(subject, step, ids, labels, kind="cross_entropy"):
    """The loss of each example at a saved step, one by one."""
    model = subject.run.model_at(step)
    rows = zip(ids.split(1), labels.split(1), strict=True)
    return model, [loss_of(model(subject.task.batch(row)[0]), label, kind) for row, label in rows]


def gradients(*about):
    model, found = losses(*about)
    slopes = [torch.autograd.grad(loss, list(model.parameters())) for loss in found]
    return torch.stack([torch.cat([each.flatten() for each in slope]) for slope in slopes])


@pytest.mark.parametrize("kind", ["cross_entropy", "mse"])
@pytest.mark.parametrize(
    "model", [{}, {"tied": True, "bias": True}, {"layers": 2, "activation": "gelu"}], ids=["plain", "tied", "deep"]
)
def test_it_is_the_product_of_the_examples_gradients(model, kind):
    subject = trained(model, loss=kind)
    ids = subject.task.ids
    labels = (2 * ids) % 5
    found = influence_along_training(subject, ids, labels)
    assert found.steps == tuple(subject.run.checkpoint_steps()) and torch.equal(found.sources, subject.task.sources)
    edges = [found.steps[0], *((a + b) / 2 for a, b in itertools.pairwise(found.steps)), found.steps[-1]]
    wanted = torch.zeros(len(ids), len(found.sources))
    for step, (low, high) in zip(found.steps, itertools.pairwise(edges), strict=True):
        of_sources = gradients(subject, step, found.sources, subject.task.given(found.sources), kind)
        each = gradients(subject, step, ids, labels, kind) @ of_sources.T
        wanted += (high - low) * subject.run.config.lr / len(found.sources) * each
    torch.testing.assert_close(found.values, wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_its_sum_is_the_loss_that_gradient_descent_took_away(momentum):
    subject = trained(steps=30, checkpoints=30, lr=0.02 * (1 - momentum), momentum=momentum)
    ids = subject.task.ids
    labels = ids % 5
    found = influence_along_training(subject, ids, labels)
    before, after = (torch.stack(losses(subject, step, ids, labels)[1]).detach() for step in (0, 30))
    fall = before - after
    assert len(found.steps) <= MOST_STATES and float(fall.abs().max()) > 0.02
    torch.testing.assert_close(found.values.sum(1), fall, rtol=0, atol=0.05 * float(fall.abs().max()))
    assert "this run used" not in found.note


def test_a_source_that_no_step_used_has_no_part():
    full = trained()
    subject = trained(left_out=tuple(full.task.train_ids[:2].tolist()))
    found = influence_along_training(subject, subject.task.ids, subject.task.true(subject.task.ids))
    assert torch.equal(found.sources, full.task.train_ids[2:])


def test_it_ends_at_the_state_asked_for_and_says_what_it_assumes(tiny_run):
    ids, labels = tiny_run.task.ids, tiny_run.task.true(tiny_run.task.ids)
    steps = tiny_run.run.checkpoint_steps()
    found = influence_along_training(tiny_run, ids, labels, until=steps[1])
    assert found.steps == tuple(steps[:2])
    assert "for gradient descent, and this run used adamw" in found.note
    with pytest.raises(MissingNeedError, match="at least two saved states, not 1"):
        influence_along_training(tiny_run, ids, labels, until=0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"batch_norm": True}, "BatchNorm lets examples act on each other"),
        ({"masks": mm.ExampleTied()}, "examples had masks"),
    ],
)
def test_it_is_refused_where_no_example_has_a_loss_of_its_own(model, said):
    subject = trained(model, steps=2)
    with pytest.raises(MissingNeedError, match=said):
        influence_along_training(subject, subject.task.ids, subject.task.given(subject.task.ids))


def test_it_needs_a_run_and_mechmem_s_own_network(planted):
    ids, labels = planted.subject.task.ids, planted.subject.task.given(planted.subject.task.ids)
    with pytest.raises(MissingNeedError, match="this network has no run"):
        influence_along_training(planted.subject, ids, labels)
    config = mm.TrainConfig(mm.ModularConfig(p=5), mm.TransformerConfig(d_model=8, heads=2), steps=1, checkpoints=1)
    other = mm.train(config, progress=False)
    with pytest.raises(MissingNeedError, match="mechmem's own MLP, and this network is a "):
        influence_along_training(other, other.task.ids, other.task.given(other.task.ids))


def test_it_leaves_the_network_as_it_was(tiny_run):
    model, (ids, labels) = tiny_run.model, (tiny_run.task.ids, tiny_run.task.true(tiny_run.task.ids))
    held = [*model.parameters(), *(each.grad for each in model.parameters() if each.grad is not None)]
    before = [each.detach().clone() for each in held]
    influence_along_training(tiny_run, ids, labels)
    assert all(torch.equal(each, was) for each, was in zip(held, before, strict=True))
    assert not model.hook_pre.fwd_hooks
