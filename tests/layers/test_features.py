"""One reading of the data for all layers, and what it falls back to where memory does not allow that."""

import collections

import pytest
import torch
from torch import nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.errors import ActivationError, ConfigError, UnknownNameError
from mechmem.layers.features import layer_features, read_layers

POINTS, SIDE = 8, 6


class Counted(HookedRootModule):
    """Eight layers, the middle ones with rows and columns; counts how often each example comes in."""

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.maps = nn.ParameterList(torch.randn(SIDE, SIDE, generator=draw) for _ in range(POINTS))
        self.points = nn.ModuleList(HookPoint() for _ in range(POINTS))
        self.seen = collections.Counter()
        self.roles = mm.Roles(hidden=tuple(f"points.{i}" for i in range(POINTS)))
        self.setup()

    def forward(self, x):
        self.seen.update(x[:, 0].long().tolist())
        for number, (weight, point) in enumerate(zip(self.maps, self.points, strict=True)):
            x = (x @ weight).tanh()
            x = point(x[:, :, None, None].repeat(1, 1, 2, 2)).mean((2, 3)) if 2 < number < 5 else point(x)
        return x[:, :3]


def counted(n=300):
    draw = torch.Generator().manual_seed(1)
    inputs = torch.cat([torch.arange(n)[:, None].float(), torch.randn(n, SIDE - 1, generator=draw)], 1)
    given = torch.arange(n) % 3
    true = torch.where(torch.rand(n, generator=draw) < 0.3, (given + 1) % 3, given)
    train = torch.arange(n) % 7 < 4
    model = Counted()
    return mm.Subject(model, mm.ArrayTask(inputs, torch.where(train, given, true), true, train), model.roles)


def test_a_table_of_eight_layers_reads_every_example_once_per_network():
    subject, before, clean = counted(), Counted(1), Counted(2)
    found = mm.probe_layers(subject, probe="class_mean", untrained=before, clean_labels=clean, folds=2)
    assert len(found.layers) == POINTS + 1
    for model in (subject.model, before, clean):
        assert model.seen == dict.fromkeys(range(300), 1)


def test_patterns_read_every_example_once_too():
    subject = counted()
    found = mm.probe_layers(subject, probe="class_mean", points="points.*", folds=0)
    assert found.layers[1:] == subject.roles.hidden and subject.model.seen == dict.fromkeys(range(300), 1)


@pytest.mark.parametrize("limit_mb, readings", [(0, {8}), (0.02, {4, 6}), (1e6, {1})])
@pytest.mark.parametrize("pool", ["none", "mean"])
def test_readings_below_a_limit_hold_what_the_layers_hold(limit_mb, readings, pool):
    subject = counted()
    ids = subject.task.ids.flip(0)
    held, passes = {}, list(read_layers(subject, "*", ids, pool, limit_mb))
    for reading in passes:
        sizes = [x.numel() * x.element_size() / 2**20 for x in reading.features.values()]
        assert reading.features and (len(sizes) == 1 or sum(sizes) <= limit_mb)
        held |= reading.features
    assert passes[0].layers == tuple(held) == subject.roles.hidden
    assert set(subject.model.seen.values()) == {len(passes)}
    assert len(passes) in readings
    for name, x in held.items():
        has_rows = name in ("points.3", "points.4")
        assert torch.equal(x, layer_features(subject, name, ids, pool if has_rows else "none"))
    torch.testing.assert_close(passes[0].logits, subject.model(subject.task.batch(ids)[0]))
    assert not any(module._forward_hooks for module in subject.model.modules())


@pytest.mark.slow
def test_the_table_is_the_same_below_any_limit():
    one, two = (mm.probe_layers(counted(), probe="knn(k=3)", limit_mb=limit, folds=2) for limit in (4096, 0))
    assert torch.equal(one.correct, two.correct) and torch.equal(one.output, two.output)
    assert torch.equal(one.cross_validated, two.cross_validated) and one.chosen == two.chosen


def test_a_failing_network_keeps_no_hook():
    subject = counted()
    with pytest.raises(UnknownNameError, match="Did you mean 'points.1'"):
        next(read_layers(subject, "points.1O", subject.task.ids))
    wrong = mm.Subject(nn.Sequential(HookPoint(), nn.Linear(SIDE, 5)), subject.task)
    with pytest.raises(ConfigError, match=r"\(example, class\) = \(300, 3\), but returned \(300, 5\)"):
        next(read_layers(wrong, "0", subject.task.ids))
    assert not wrong.model._forward_hooks
    silent = Counted()
    silent.other = HookPoint()
    silent.setup()
    with pytest.raises(ActivationError, match="did not fire"):
        next(read_layers(subject.with_model(silent), "other", subject.task.ids))
