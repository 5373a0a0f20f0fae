"""Against Hessian-vector products by autograd, and the softmax's own curvature."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F
from plugin_names import example_score
from torch import nn

import mechmem as mm
from mechmem.core.randomness import derive_seed
from mechmem.errors import ActivationError, ConfigError, DiscardedEditError, MissingNeedError
from mechmem.examples.scores import input_curvature
from mechmem.math.example_masks import example_mask

N, SHAPE = 12, (2, 3)


def signs(ids, width, direction, seed=0):
    key = derive_seed(seed, f"input curvature {direction}")
    return example_mask(ids, width, 0.5, key).double() * 2 - 1


@pytest.fixture
def smooth(draw):
    """A smooth network for small images, in float64."""
    inputs, labels = torch.randn(N, *SHAPE, generator=draw).double(), torch.randint(3, (N,), generator=draw)
    task = mm.ArrayTask(inputs, labels, labels, torch.arange(N) >= 3, n_classes=3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return mm.Subject(model, task)


def by_hessian(subject, directions, h, seed=0):
    task, found = subject.task, []
    for each in task.sources:
        x, label = task.batch(each[None])
        total = 0
        for direction in range(directions):
            v = signs(each[None], 6, direction, seed).reshape(x.shape)
            _, product = torch.autograd.functional.hvp(lambda x, y=label: F.cross_entropy(subject.model(x), y), x, v)
            total += h * float(product.norm())
        found.append(total / directions)
    return torch.tensor(found, dtype=torch.float64)


def test_equals_hessian_vector_products(smooth):
    found = example_score("input_curvature(directions=4,h=1e-5,seed=3)")(smooth)
    assert torch.allclose(found.values, by_hessian(smooth, 4, 1e-5, seed=3), rtol=1e-3)
    assert found.note == "of the network alone" and found.suspect == "high"
    assert all(each.requires_grad and each.grad is None for each in smooth.model.parameters())


def test_an_example_s_score_does_not_depend_on_the_others(smooth, monkeypatch):
    whole = example_score("input_curvature")(smooth).values
    monkeypatch.setattr(input_curvature, "block_rows", lambda _model: 2)
    assert torch.allclose(example_score("input_curvature")(smooth).values, whole, rtol=1e-9)
    task, few = smooth.task, torch.arange(N) >= 8
    fewer = mm.ArrayTask(task.inputs, task.given(task.ids), task.true(task.ids), few, n_classes=3)
    alone = example_score("input_curvature")(dataclasses.replace(smooth, task=fewer))
    assert torch.allclose(alone.values, whole[-4:], rtol=1e-9) and alone.values.std() > 0


def test_pairs_of_symbols_are_moved_at_the_first_hidden_layer(planted):
    subject, h = planted.subject, 1e-3
    found = example_score("input_curvature(directions=3)")(subject)
    ids, given = subject.task.sources, subject.task.given(subject.task.sources)
    hidden = mm.activations(subject, "hook_hidden", ids=ids)["hook_hidden"]
    weights, target = subject.roles.readout.read(subject.model), F.one_hot(given, 7)

    def slope(held):
        return ((held @ weights).softmax(1) - target) @ weights.T

    moves = [slope(hidden + h * signs(ids, hidden.shape[1], each)) - slope(hidden) for each in range(3)]
    assert torch.allclose(found.values, torch.stack(moves).norm(dim=2).mean(0), rtol=1e-6, atol=1e-14)
    assert found.note.endswith("at hook_hidden")
    bare = dataclasses.replace(subject, roles=mm.Roles())
    with pytest.raises(MissingNeedError, match="role:hidden"):
        example_score("input_curvature")(bare)
    with pytest.raises(ActivationError, match="int64"):
        example_score("input_curvature(point=inputs)")(bare)
    assert example_score("input_curvature(point=hook_pre)")(bare).values.isfinite().all()


def test_the_mean_over_saved_states(tiny_run):
    found = example_score("input_curvature(directions=2)")(tiny_run)
    steps = tiny_run.run.checkpoint_steps()[1:]
    name = "input_curvature(directions=2,checkpoints=last)"
    each = [example_score(name)(mm.load(tiny_run.run.path, step=step)).values for step in steps]
    assert len(steps) > 1 and tiny_run.run.checkpoint_steps()[0] == 0
    assert torch.allclose(found.values, torch.stack(each).mean(0), rtol=1e-9)
    assert found.note.startswith(f"mean over {len(steps)} saved states")
    assert "checkpoints" in example_score("input_curvature").told() - example_score(name).told()


def test_a_label_that_is_answered_for_sure_is_still_told_from_certainty(draw):
    """In float32 its probability is 1, and its part of the slope would be gone."""
    inputs, labels = torch.randn(6, 2, generator=draw), torch.zeros(6).long()
    task = mm.ArrayTask(inputs, labels, labels, torch.arange(6) < 5, n_classes=2)
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.5], [0.3, 2.0]]))
        model.bias.copy_(torch.tensor([25.0, 0]))
    found = example_score("input_curvature(h=0.1)")(mm.Subject(model, task)).values
    exact = mm.ArrayTask(inputs.double(), labels, labels, torch.arange(6) < 5, n_classes=2)
    wanted = example_score("input_curvature(h=0.1)")(mm.Subject(copy.deepcopy(model).double(), exact)).values
    assert torch.allclose(found, wanted, rtol=1e-3, atol=0) and (wanted > 0).all()


def test_what_cannot_be_moved_is_refused(smooth):
    low = mm.ArrayTask(
        smooth.task.inputs.half(), *(smooth.task.given(smooth.task.ids),) * 2, torch.arange(N) < 6, n_classes=3
    )
    with pytest.raises(ActivationError, match="step of 0.001 changes"):
        example_score("input_curvature")(mm.Subject(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).half(), low))
    with pytest.raises(DiscardedEditError):
        example_score("input_curvature(point=aside)")(mm.Subject(Aside(), smooth.task))
    with pytest.raises(ConfigError, match="step"):
        example_score("input_curvature(h=0)")
    with pytest.raises(MissingNeedError, match="another point"):
        example_score("input_curvature")(mm.Subject(Rounded(), smooth.task))


class Rounded(nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :3].round().detach()


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        from transformer_lens.hook_points import HookPoint

        self.aside = HookPoint()

    def forward(self, images):
        self.aside(images * 2)
        return images.flatten(1)[:, :3]
