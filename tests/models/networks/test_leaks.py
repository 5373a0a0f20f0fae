"""Isolation over random architectures: what an example trains, its flipped subnetwork does not use."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mechmem as mm
from mechmem.errors import LeakWarning, MissingNeedError
from mechmem.models.networks.build import build_model
from mechmem.models.networks.leaks import FixedNorm
from mechmem.tasks.build import build_task

PAIRS = mm.ModularConfig(p=5, noise=mm.LabelNoise(0.3))
PICTURES = mm.ImageConfig(data="digits", train=40, test=20)
TASKS = {False: build_task(PAIRS), True: build_task(PICTURES)}


@st.composite
def isolated_networks(draw):
    """Networks without leaks: no layer between two unmasked ones, no biases behind a mask, no normalization."""
    masks = mm.TurnOver(keep=draw(st.sampled_from([0.3, 0.5, 0.8])), seed=draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["mlp", "transformer", "image mlp", "cnn"]))
    if kind == "mlp":
        layers = draw(st.integers(1, 4))
        model = mm.MLPConfig(width=draw(st.integers(2, 20)), layers=layers, tied=draw(st.booleans()))
    elif kind == "transformer":
        model = mm.TransformerConfig(
            d_model=draw(st.sampled_from([4, 12])),
            heads=2,
            layers=draw(st.integers(1, 3)),
            layer_norm=draw(st.booleans()),
            biases=draw(st.sampled_from(["none", "mlp"])),
        )
    elif kind == "image mlp":
        widths = draw(st.lists(st.integers(2, 16), min_size=1, max_size=4))
        model = mm.ImageMLPConfig(tuple(widths), biases=False, projector=draw(st.sampled_from([0, 6])))
    else:
        channels = draw(st.lists(st.integers(2, 6), min_size=1, max_size=3))
        model = mm.CNNConfig(tuple(channels), projector=draw(st.integers(2, 8)))
    if kind in ("mlp", "image mlp"):
        # Every other layer is enough: each matrix then has a masked side.
        count = model.layers if kind == "mlp" else model.hidden_layers
        masks = dataclasses.replace(
            masks, layers=tuple(range(count))[draw(st.sampled_from([0, count % 2 == 0])) :: 2] or ()
        )
        if (count - 1) not in masks.chosen(count) or 0 not in masks.chosen(count):
            masks = dataclasses.replace(masks, layers=())
    return dataclasses.replace(model, masks=masks)


def slopes(model, inputs, labels):
    """|∂L/∂W| summed over examples, one by one, so that nothing cancels."""
    total = [torch.zeros_like(each) for each in model.parameters()]
    for row in range(len(inputs)):
        loss = F.cross_entropy(model(inputs[row : row + 1]), labels[row : row + 1])
        for each, slope in zip(
            total, torch.autograd.grad(loss, list(model.parameters()), allow_unused=True), strict=True
        ):
            each += 0 if slope is None else slope.abs()
    return total


@pytest.mark.slow
@given(isolated_networks(), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_an_examples_gradient_is_zero_on_all_that_its_flipped_subnetwork_uses(config, place):
    task = TASKS[not isinstance(config, mm.MLPConfig | mm.TransformerConfig)]
    model = build_model(config, task, seed=place)
    assert mm.isolation(model, task).isolated
    z = task.train_ids[place : place + 1]
    inputs, labels = task.batch(z)
    others = task.batch(task.train_ids[:12])
    with mm.subnetwork(model, "own", z):
        trained = slopes(model, inputs, labels)
    with mm.subnetwork(model, "flipped", int(z)):
        used = slopes(model, *others)
    for slope, use in zip(trained, used, strict=True):
        assert (slope[use > 0] == 0).all()


LEAKING = {
    "b_out": mm.MLPConfig(width=30, bias=True),
    "deeper.0.W": mm.MLPConfig(width=30, layers=3, masks=mm.TurnOver(layers=(2,))),
    "norm": mm.MLPConfig(width=30, batch_norm=True),
    "embed.W_E": mm.TransformerConfig(d_model=16, heads=2, masks=mm.TurnOver(stream=False)),
    "blocks.0.attn.b_V": mm.TransformerConfig(d_model=16, heads=2, biases="all"),
    "layers.1.linear.bias": mm.ImageMLPConfig((30, 30, 30), masks=mm.TurnOver(layers=(0, 2))),
    "layers.0.linear.weight": mm.ImageMLPConfig((30, 30), biases=False, masks=mm.TurnOver(layers=(1,))),
    "readout.bias": mm.CNNConfig((6, 6)),
    "layers.1.norm2": mm.ResNetConfig(4, (1, 1)),
}


@pytest.mark.parametrize("name", LEAKING)
def test_a_leak_is_named_and_can_be_closed(name):
    model = LEAKING[name] if LEAKING[name].masks else dataclasses.replace(LEAKING[name], masks=mm.TurnOver())
    task = PAIRS if isinstance(model, mm.MLPConfig | mm.TransformerConfig) else PICTURES
    config = mm.TrainConfig(task=task, model=model, steps=5, batch_size=16, checkpoints=1)
    found = mm.isolation(config)
    assert (
        name in [leak.name for leak in found.leaks] and not found.isolated and name in found.to_frame()["name"].tolist()
    )
    with pytest.warns(LeakWarning, match="close_leaks"):
        mm.train(config, progress=False)
    closed = dataclasses.replace(
        config, model=dataclasses.replace(model, masks=dataclasses.replace(model.masks, close_leaks=True))
    )
    assert mm.isolation(closed).isolated
    before = build_model(closed.model, build_task(task), 0)
    after = mm.train(closed, progress=False)
    held = [leak.name for leak in found.leaks if leak.name in dict(before.named_parameters())]
    moved = {key for key, each in after.model.named_parameters() if not torch.equal(each, before.get_parameter(key))}
    assert not moved & set(held) and moved
    assert all((before.get_parameter(key) == 0).all() for key in held if "bias" in key or ".b_" in key)
    # What is written is read again.
    for one, other in zip(after.model.buffers(), mm.load(after.run.path).model.buffers(), strict=True):
        assert torch.equal(one, other)


def test_an_optimizer_that_mixes_numbers_leaks():
    config = mm.TrainConfig(task=PAIRS, model=mm.MLPConfig(width=30, masks=mm.TurnOver()), optimizer="muon")
    assert [leak.name for leak in mm.isolation(config).leaks] == ["optimizer muon"]
    assert "isolated" in str(mm.isolation(dataclasses.replace(config, optimizer="adamw")))


def test_a_users_own_network_is_inspected():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.mask = nn.Linear(64, 20, bias=False), mm.TurnOverDropout(20)
            self.last = nn.Linear(20, 10)

        def forward(self, images):
            return self.last(self.mask(self.first(images.flatten(1)).relu()))

    found = mm.isolation(Own(), TASKS[True])
    assert [leak.name for leak in found.leaks] == ["last.bias"]
    with pytest.raises(MissingNeedError, match="no turn-over"):
        mm.isolation(nn.Linear(2, 2), TASKS[True])


def test_a_fixed_norm_is_batch_norm_in_evaluation():
    norm = nn.BatchNorm2d(3)
    norm.train()(torch.randn(9, 3, 4, 4))
    values = torch.randn(5, 3, 2, 2)
    fixed = FixedNorm(norm).train()
    assert torch.equal(fixed(values), norm.eval()(values))
    assert fixed.state_dict().keys() == norm.state_dict().keys()
