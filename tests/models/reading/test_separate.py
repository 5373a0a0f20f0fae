"""Networks that are random in evaluation mode, or in which examples act on each other, and those that only look so."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.errors import ActivationError, UnsteadyNetworkError
from mechmem.models.networks.build import build_model
from mechmem.models.reading import separate
from mechmem.models.reading.forward import all_logits, logits_of, raw_logits
from mechmem.models.reading.separate import check_subject
from mechmem.models.reading.trial_network import known_to_be_separate

N = 60
DRAW = torch.Generator().manual_seed(0)
X, PICTURES = torch.randn(N, 8, generator=DRAW), torch.randn(N, 3, 6, 6, generator=DRAW)
TOKENS = torch.randint(0, 11, (N, 5), generator=DRAW)


def task(inputs):
    rows = torch.arange(N)
    return mm.ArrayTask(inputs, rows % 3, rows % 3, rows < 40)


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def with_step(function, width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), Step(function), nn.Linear(width, 3))


def twice_if(drawn):
    return lambda h: h * 2 if drawn() < 0.3 else h


OWN = torch.Generator().manual_seed(0)
RANDOM = {
    "dropout": lambda h: F.dropout(h, 0.1),
    "noise": lambda h: h + 1e-3 * torch.randn_like(h),
    "a generator of its own": lambda h: h + 0.1 * torch.randn(h.shape, generator=OWN),
    "torch, now and then": twice_if(lambda: float(torch.rand(()))),
    "numpy, now and then": twice_if(lambda: np.random.rand()),
    "python, now and then": twice_if(random.random),
}
COUPLED = {
    "centred": lambda h: h - h.mean(0),
    "centred a little": lambda h: h - 1e-3 * h.mean(0),
    "by the largest": lambda h: h / h.abs().max(),
    "batch statistics": nn.BatchNorm1d(16, track_running_stats=False),
    "the example before": lambda h: h + h.roll(1, 0),
    "a running sum": lambda h: h.cumsum(0),
    "attention over examples": lambda h: (h @ h.T).softmax(-1) @ h,
}
PLACED = {
    "the number of examples": lambda h: h * len(h),
    "the place in the block": lambda h: h + torch.arange(len(h))[:, None],
    "a generator seeded anew": lambda h: h + torch.randn(h.shape, generator=torch.Generator().manual_seed(0)),
}


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        *((each, "the network is random in evaluation mode") for each in RANDOM.values()),
        *((each, "examples act on each other in evaluation mode") for each in COUPLED.values()),
        *((each, "depends on its place in a block, or on the size of the block") for each in PLACED.values()),
    ],
    ids=[*RANDOM, *COUPLED, *PLACED],
)
def test_it_is_refused_wherever_it_runs_and_the_module_is_named(function, said):
    network = with_step(function)
    subject, hooked = mm.Subject(network, task(X)), mm.attach(with_step(function))
    runs = [
        lambda: check_subject(subject),
        lambda: mm.audit(subject, ["raw"]),
        lambda: mm.activations(hooked, "0.hook_out", task=subject.task),
        lambda: mm.intervene(hooked, mm.Edit("0.hook_out"), subject.task),
    ]
    for run in runs:
        with pytest.raises(UnsteadyNetworkError, match=f"{said}.* differ by up to .*module '2(.function)?' \\("):
            run()


def without_effect(h):
    torch.rand(3)
    return h


class Sequences(nn.Module):
    """A network with time first inside."""

    def __init__(self, layer, out):
        super().__init__()
        self.embed, self.layer, self.out = nn.Embedding(11, 8), layer, nn.Linear(out, 3)

    def forward(self, tokens):
        held = self.layer(self.embed(tokens).transpose(0, 1))
        return self.out((held[0] if isinstance(held, tuple) else held)[-1])


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = with_step(nn.Identity(), 256)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inside(x).float()


class Experts(nn.Module):
    """Every example goes through one of several layers, with those that go through the same."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts, self.out = (
            nn.Linear(8, 4),
            nn.ModuleList(nn.Linear(8, 64) for _ in "abcd"),
            nn.Linear(64, 3),
        )

    def forward(self, x):
        weight, chosen = self.gate(x).softmax(-1).max(-1)
        held = x.new_zeros(len(x), 64)
        for number, expert in enumerate(self.experts):
            rows = (chosen == number).nonzero()[:, 0]
            held.index_add_(0, rows, expert(x[rows]) * weight[rows, None])
        return self.out(held)


class OneSize(nn.Module):
    """A network that takes blocks of one size only."""

    def __init__(self, coupled=False):
        super().__init__()
        self.a, self.coupled = nn.Linear(8, 3), coupled

    def forward(self, x):
        x = x.view(N, 8)
        return self.a(x - x.mean(0) if self.coupled else x)


def pictures(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.Linear(64, 3))


STEADY = {
    "draws without effect": (lambda: with_step(without_effect), X),
    "usual batch norm and dropout": (
        lambda: nn.Sequential(nn.Linear(8, 9), nn.BatchNorm1d(9), nn.Dropout(), nn.Linear(9, 3)),
        X,
    ),
    "instance norm": (lambda: pictures(nn.InstanceNorm2d(4), nn.Dropout2d()), PICTURES),
    "group norm": (lambda: pictures(nn.GroupNorm(2, 4), nn.ReLU()), PICTURES),
    "recurrent": (lambda: Sequences(nn.LSTM(8, 6, 2, dropout=0.5), 6), TOKENS),
    "transformer": (lambda: Sequences(nn.TransformerEncoderLayer(8, 2, 16), 8), TOKENS),
    "bfloat16": (lambda: with_step(nn.Identity(), 256).bfloat16(), X.bfloat16()),
    "float16": (lambda: with_step(nn.Identity(), 256).half(), X.half()),
    "bfloat16 inside": (Autocast, X),
    "experts": (Experts, X),
    "one size only": (OneSize, X),
    "not a number": (lambda: with_step(lambda h: h * torch.nan), X),
}


@pytest.mark.parametrize(("make", "inputs"), STEADY.values(), ids=STEADY)
def test_a_steady_network_is_measured_and_left_as_it_was(make, inputs):
    network = make()
    before, states = random_states(), {name: each.clone() for name, each in network.state_dict().items()}
    subject = mm.Subject(network, task(inputs))
    check_subject(subject)
    assert network.training and random_states() == before
    assert all(torch.equal(each, states[name]) for name, each in network.state_dict().items())
    assert raw_logits(subject).shape == (N, 3)


def random_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def test_a_network_of_one_size_is_tried_at_that_size():
    with pytest.raises(UnsteadyNetworkError, match="examples act on each other"):
        all_logits(mm.Subject(OneSize(coupled=True), task(X)))


class Counting(nn.Module):
    """A network that counts the examples it sees, outside of its weights."""

    def __init__(self):
        super().__init__()
        self.a, self.seen = nn.Linear(8, 3), []

    def forward(self, x):
        self.seen.append(len(x))
        return self.a(x)


def test_a_trial_leaves_no_trace_and_takes_place_once(monkeypatch):
    network, trials = Counting(), []
    checked = separate._Trial.checked
    monkeypatch.setattr(separate._Trial, "checked", lambda *args: trials.append(1) or checked(*args))
    subject = mm.Subject(network, task(X))
    all_logits(subject)
    assert network.seen == [N]
    for _ in range(3):
        logits_of(network, subject.task, subject.task.train_ids)
        check_subject(subject)
    assert len(trials) == 1
    with torch.no_grad():
        network.a.weight.mul_(2)
    check_subject(subject)
    assert len(trials) == 2


def test_a_step_put_in_later_is_noticed():
    network = with_step(nn.Identity())
    subject = mm.Subject(network, task(X))
    check_subject(subject)
    handle = network[0].register_forward_hook(lambda module, args, out: out - out.mean(0))
    with pytest.raises(UnsteadyNetworkError, match="module '0'"):
        check_subject(subject)
    handle.remove()
    check_subject(subject)
    network[2] = Step(COUPLED["centred"])
    with pytest.raises(UnsteadyNetworkError, match="module '2'"):
        check_subject(subject)


def test_hooks_at_hook_points_are_not_called_in_a_trial():
    seen = []
    hooked = mm.attach(with_step(nn.Identity()))
    with hooked.hooks([("0.hook_out", lambda value, hook: seen.append(len(value)))]):
        mm.activations(hooked, "1.hook_out", task=task(X))
    assert seen == [40]


def test_networks_of_our_own_need_no_trial_until_somebody_changes_them():
    model = build_model(mm.MLPConfig(width=8), mm.ModularTask(mm.ModularConfig(p=5)), 0)
    assert known_to_be_separate(model) and not known_to_be_separate(with_step(nn.Identity()))
    model.activation = Step(torch.relu)
    assert not known_to_be_separate(model)


SIDE = 8


class TimeFirst(nn.Module):
    """Points with time first, of a weight, and of both the examples and the places of one picture."""

    def __init__(self):
        super().__init__()
        self.gru, self.o, self.weight = nn.GRU(4, 6), nn.Linear(6, 3), Step(lambda x: self.o.weight.new_ones(SIDE, 5))

    def forward(self, x):
        self.weight(x)
        return self.o(self.gru(x.transpose(0, 1))[0][-1])


@pytest.mark.parametrize("name", ["gru.hook_out.0", "weight.hook_out"])
def test_an_axis_as_long_as_the_block_is_not_taken_for_the_examples(name):
    hooked = mm.attach(TimeFirst(), "gru:0", "weight", "o")
    arrays = task(torch.randn(N, SIDE, 4, generator=torch.Generator().manual_seed(1)))
    for reduction in (None, mm.Mean):
        with pytest.raises(ActivationError, match=f"'{name}' has shape .*its first axis is not the . examples"):
            mm.activations(hooked, name, range(5 * SIDE), task=arrays, chunk=SIDE, reduce=reduction)
    found = mm.activations(hooked, "*", range(5 * SIDE), task=arrays, chunk=SIDE)
    assert list(found) == ["o.hook_out"]
    with pytest.raises(ActivationError, match=f"'{name}' has shape"):
        mm.intervene(hooked, mm.Edit(name), arrays, ids=range(SIDE))
