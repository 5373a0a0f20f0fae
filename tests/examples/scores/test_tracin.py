"""Against a plain loop over saved states and examples."""

import dataclasses
import sys

import pytest
import torch
import torch.nn.functional as F
from plugin_names import example_score
from torch import nn

import mechmem as mm
from mechmem.errors import MissingNeedError
from mechmem.examples.scores import tracin

STEPS = (0, 1, 3)
N = 14


def plain(subject, rate=1.0, loss=F.cross_entropy, skip=()):
    """Gradients of one example at a time."""
    found = torch.zeros(len(subject.task.sources), dtype=torch.float64)
    for step in subject.run.checkpoint_steps()[1:]:
        model = subject.run.model_at(step).eval()
        chosen = [parameter for name, parameter in model.named_parameters() if name not in skip]
        for row, each in enumerate(subject.task.sources):
            inputs, given = subject.task.batch(each[None])
            slopes = torch.autograd.grad(loss(model(inputs), given), chosen)
            found[row] += rate * sum(float(slope.double().square().sum()) for slope in slopes)
    return found


def recorded(model, inputs, classes=3):
    """A network in float64 that a loop of one's own has trained for some steps."""
    given = torch.arange(N) % classes
    task = mm.ArrayTask(inputs.double(), given, given, torch.arange(N) >= 3, n_classes=classes)
    recorder = mm.Recorder(model.double(), task, steps=STEPS[-1], evaluations=1, checkpoints=STEPS)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    for step in range(STEPS[-1] + 1):
        recorder(step)
        optimizer.zero_grad()
        F.cross_entropy(model.train()(task.inputs[3:]), given[3:]).backward()
        optimizer.step()
    return mm.Subject(model.eval(), task, run=recorder.run())


class OwnWeights(nn.Module):
    """A raw parameter, and one that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.W, self.unused = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(2))

    def forward(self, x):
        return x @ self.W.tanh()


class Twice(nn.Module):
    """A layer whose weights are used outside of it too: what captum reads off the layer is not its gradient."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(x)) + x @ self.layer.weight)


NETWORKS = {
    "dense": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,), True),
    "images": (
        lambda: nn.Sequential(nn.Conv2d(1, 3, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)),
        (1, 5, 5),
        True,
    ),
    "groups": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(36, 3)), (2, 5, 5), False),
    "norm": (lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), (4,), False),
    "twice": (Twice, (4,), False),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_equals_a_loop_over_examples(kind, draw, monkeypatch):
    make, shape, together = NETWORKS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        subject = recorded(make(), torch.randn(N, *shape, generator=draw))
    asked = []
    call = tracin._Influence.__call__
    monkeypatch.setattr(tracin._Influence, "__call__", lambda self, *args: asked.append(args[2]) or call(self, *args))
    before, state = torch.random.get_rng_state(), {k: v.clone() for k, v in subject.model.state_dict().items()}
    found = example_score("tracin")(subject)
    assert asked[-1] == together
    assert torch.allclose(found.values, plain(subject), rtol=1e-9) and found.values.std() > 0
    assert "sum over 2 saved states" in found.note and "no learning rate" in found.note
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(value, state[name]) for name, value in subject.model.state_dict().items())
    monkeypatch.setattr(tracin, "GRADIENT_ELEMENTS", 1)
    assert torch.allclose(example_score("tracin")(subject).values, found.values, rtol=1e-9)


def test_parameters_that_are_not_trained_do_not_count(draw):
    inputs = torch.randn(N, 4, generator=draw)
    subject = recorded(OwnWeights(), inputs)
    assert torch.allclose(example_score("tracin")(subject).values, plain(subject, skip=("unused",)), rtol=1e-9)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    model[0].weight.requires_grad_(False)
    subject = recorded(model, inputs)
    assert torch.allclose(example_score("tracin")(subject).values, plain(subject, skip=("0.weight",)), rtol=1e-9)


def test_a_run_s_own_rate_and_loss(tiny_run, tiny_config):
    found = example_score("tracin")(tiny_run)
    assert torch.allclose(found.values, plain(tiny_run, 0.01), rtol=1e-4)
    assert "for sgd only, but this run used adamw" in found.note
    config = dataclasses.replace(tiny_config, optimizer="sgd", loss="mse", lr=0.5)
    run = mm.train(config, progress=False)

    def squared(logits, given):
        return F.mse_loss(logits, F.one_hot(given, 5).float())

    found = example_score("tracin")(run)
    assert torch.allclose(found.values, plain(run, 0.5, squared), rtol=1e-4) and "sgd" not in found.note


def test_one_s_own_labels_drawn_from_the_rest_stand_out():
    """The same input with another label than all its copies has the longest gradient."""
    model = nn.Linear(3, 2)
    given = torch.zeros(N).long()
    given[7] = 1
    inputs = torch.ones(N, 3)
    inputs[0] = 2
    task = mm.ArrayTask(inputs, given, given * 0, torch.arange(N) > 0)
    recorder = mm.Recorder(model, task, steps=40, evaluations=1, checkpoints=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(41):
        recorder(step)
        optimizer.zero_grad()
        F.cross_entropy(model(task.inputs[1:]), given[1:]).backward()
        optimizer.step()
    found = example_score("tracin")(mm.Subject(model, task, run=recorder.run()))
    assert found.most(1).tolist() == [7] and found.values.unique().numel() == 2


def test_what_is_missing_is_said(tiny_run, monkeypatch, draw):
    with pytest.raises(MissingNeedError, match="needs run"):
        example_score("tracin")(mm.Subject(tiny_run.model, tiny_run.task))
    task = mm.ArrayTask(torch.randn(N, 3), torch.arange(N) % 3, torch.arange(N) % 3, torch.arange(N) > 3)
    model = nn.Linear(3, 3)
    recorder = mm.Recorder(model, task, steps=1, evaluations=1, checkpoints=[0])
    recorder(0)
    with pytest.raises(MissingNeedError, match="after step 0"):
        example_score("tracin")(mm.Subject(model, task, run=recorder.run()))
    monkeypatch.setitem(sys.modules, "captum.influence", None)
    with pytest.raises(MissingNeedError, match=r"pip install \"mechmem\[influence\]\""):
        example_score("tracin")(tiny_run)
