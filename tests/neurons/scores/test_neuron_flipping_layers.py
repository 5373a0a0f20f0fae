"""Flipping sets in networks that have to be run: channels of images, neurons below the last layer, sequences."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from hooked_networks import Transformer
from hooked_networks import subject_of as hooked_subject
from plugin_names import score

import mechmem as mm
from mechmem.core.randomness import generator
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.hooks.points import hook_points
from mechmem.models.networks.build import build_model
from mechmem.models.reading.forward import all_logits
from mechmem.neurons.scores import neuron_flipping


def fitted(model, steps=40):
    """A network for images in float64 that has fitted some of its labels, and wrong ones among them."""
    task = mm.ImageTask(mm.ImageConfig(train=60, test=20, noise=mm.LabelNoise(0.3)))
    network, (inputs, given) = build_model(model, task, 0).double(), task.batch(task.ids)
    arrays = mm.ArrayTask(inputs.double(), given, task.true(task.ids), torch.isin(task.ids, task.train_ids))
    optimizer, (inputs, given) = torch.optim.Adam(network.parameters(), 0.01), arrays.batch(arrays.train_ids)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), given).backward()
        optimizer.step()
    return mm.Subject(network.eval(), arrays, network.roles)


@pytest.fixture(scope="module")
def mlp():
    return fitted(mm.ImageMLPConfig((14, 12)))


@pytest.fixture(scope="module")
def cnn():
    return fitted(mm.CNNConfig((6, 8)), steps=150)


def sample(subject, examples, others, seed=0):
    """Ids of fitted noisy examples, and of other training examples, as the score draws them."""
    task = subject.task
    noisy = task.splits["train_noisy"]
    noisy = noisy[all_logits(subject)[noisy].argmax(1) == task.given(noisy)]
    draw = generator(seed, "neuron flipping")
    chosen = noisy[torch.randperm(len(noisy), generator=draw)[:examples]]
    rest = task.train_ids[~torch.isin(task.train_ids, chosen)]
    return chosen, rest[torch.randperm(len(rest), generator=draw)[:others]]


def by_weights(subject, module, examples, others, most):
    """As the paper has it: zero the channel with the largest Σ w·g over its own weights, until the prediction flips.

    Behind a ReLU this is the gate's derivative: the channel is proportional to its weights and bias.
    """
    task, sets, lost = subject.task, [], []
    chosen, spared = sample(subject, examples, others)
    for each in chosen:
        model, gone = subject.copy_model(), []
        layer = model.get_submodule(module)
        inputs, given = task.batch(torch.cat([each[None], spared]))
        right = model(inputs).argmax(1) == given
        while len(gone) < most:
            model.zero_grad()
            losses = F.cross_entropy(model(inputs), given, reduction="none")
            (losses[1:].mean() - losses[0]).backward()
            slope = (layer.weight * layer.weight.grad).flatten(1).sum(1) + layer.bias * layer.bias.grad
            slope = slope.detach()
            slope[gone] = -torch.inf
            gone.append(int(slope.argmax()))
            with torch.no_grad():
                layer.weight[gone], layer.bias[gone] = 0, 0
                left = model(inputs).argmax(1) == given
            if not left[0]:
                sets.append(set(gone))
                lost.append(float((right & ~left)[1:].sum() / right[1:].sum()))
                break
        else:
            sets.append(set())
    return sets, sum(lost) / max(1, len(lost))


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize(
    ("network", "module", "point", "units"),
    [
        ("cnn", "layers.0.conv", "layers.0.hook_hidden", "channel"),
        ("cnn", "layers.0.conv", "layers.0.hook_pre", "channel"),
        ("cnn", "layers.1.conv", "layers.1.hook_hidden", "channel"),
        ("mlp", "layers.0.linear", "layers.0.hook_hidden", "neuron"),
    ],
)
def test_equals_the_paper_s_search_over_weights(network, module, point, units, most, request, monkeypatch):
    subject = request.getfixturevalue(network)
    sets, lost = by_weights(subject, module, 7, 20, most)
    width = len(subject.model.get_submodule(module).bias)
    wanted = torch.tensor([sum(m in each for each in sets) / len(sets) for m in range(width)], dtype=torch.float64)
    name = f"neuron_flipping(examples=7,others=20,most={most},point={point},units={units})"
    before = {key: each.clone() for key, each in subject.model.state_dict().items()}
    found = score(name)(subject)
    assert torch.allclose(found.values, wanted) and found.values.any() and found.point == point
    sizes = [len(each) for each in sets if each]
    assert found.note.startswith(f"{len(sizes)} of {len(sets)} sampled examples flipped, {sum(sizes) / len(sizes):.1f}")
    assert f"{lost:.1%} of 20 others lost; found by running the network without {units}s" in found.note
    monkeypatch.setattr(neuron_flipping, "block_rows", lambda _model: 6)
    assert torch.allclose(score(name)(dataclasses.replace(subject)).values, wanted)
    assert all(torch.equal(each, before[key]) for key, each in subject.model.state_dict().items())
    assert all(not point._forward_hooks for point in hook_points(subject.model).values())
    assert all(each.requires_grad for each in subject.model.parameters())


def test_the_algebra_of_the_last_layer_is_what_running_it_gives(mlp, cnn, monkeypatch):
    """Of a CNN these are the means of the last channels over the image: a channel is gone at all places."""
    for subject, of_channels in ((mlp, ""), (cnn, "layers.1.hook_hidden")):
        algebra = score("neuron_flipping(others=30)")(subject)
        assert "running" not in algebra.note and algebra.point == subject.roles.hidden[-1]
        with monkeypatch.context() as patch:
            patch.setattr(neuron_flipping.NeuronFlipping, "_readout", lambda *_: (None, "run"))
            run = score("neuron_flipping(others=30)")(subject)
        assert torch.allclose(run.values, algebra.values)
        assert run.note == f"{algebra.note}; run"
        if of_channels:
            channels = score(f"neuron_flipping(others=30,point={of_channels},units=channel)")(subject)
            assert torch.allclose(channels.values, algebra.values)


def test_residual_blocks_with_batch_norm_are_run_in_evaluation_mode():
    subject = fitted(mm.ResNetConfig(2, (1, 1)), steps=60)
    subject.model.train()
    names = [f"neuron_flipping(examples=4,point={p},units=channel)" for p in ("layers.1.hook_middle", "layers.2.*den")]
    widths = [len(score(name)(subject).values) for name in names]
    assert widths == [2, 4] and subject.model.training
    again = score(names[0])(subject)
    assert torch.equal(again.values, score(names[0])(subject).values)


def test_a_neuron_of_a_sequence_is_removed_at_all_positions():
    subject = hooked_subject(Transformer)
    found = score("neuron_flipping(among=train,point=blocks.0.hook_post,examples=3,most=3)")(subject)
    assert len(found.values) == 6 and "not linear" in found.note


def test_units_that_a_layer_does_not_have_are_refused(cnn):
    with pytest.raises(ConfigError, match='units="channel"'):
        score("neuron_flipping(point=layers.0.hook_hidden)")(cnn)
    with pytest.raises(UnknownNameError, match="channel"):
        score("neuron_flipping(units=chanel)")
    with pytest.raises(UnknownNameError, match="hook point"):
        score("neuron_flipping(point=layers.7.hook_hidden,units=channel)")(cnn)
