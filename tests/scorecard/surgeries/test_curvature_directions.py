"""Directions of large curvature, against a dense computation, and where private directions are planted."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError
from mechmem.models.reading.curvature_basis import CurvatureBasis, curvature_bases
from mechmem.scorecard.surgeries.curvature_directions import CurvatureDirections
from mechmem.scorecard.surgeries.random_directions import RandomDirections


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Small(nn.Module):
    """A convolution with a stride, a normalization, and two linear layers, in float64."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.conv = nn.Conv2d(1, 3, 3, stride=2, padding=1)
            self.norm = nn.BatchNorm2d(3)
            self.hidden = nn.Linear(27, 7)
            self.head = nn.Linear(7, 4)
        self.double()

    def forward(self, x):
        return self.head(self.hidden(self.norm(self.conv(x)).relu().flatten(1)).tanh())


@pytest.fixture(scope="module")
def small():
    labels = torch.arange(30) % 4
    task = mm.ArrayTask(random(30, 1, 5, 5), labels, labels.roll(3), torch.arange(30) < 20)
    return mm.Subject(Small().eval(), task)


@pytest.fixture(scope="module")
def pictured():
    task = mm.ImageConfig(train=40, test=30, noise=mm.LabelNoise(0.3))
    config = mm.TrainConfig(task, mm.ResNetConfig(width=4, blocks=(1, 1)), steps=5, batch_size=20, checkpoints=1)
    return mm.train(config, progress=False)


def weights(subject, name):
    return dict(subject.model.named_parameters())[name].detach()


def changed(before, after):
    theirs = after.model.state_dict()
    return [name for name, value in before.model.state_dict().items() if not torch.equal(value, theirs[name])]


def moments(subject, name, labels):
    """A and S of a layer, one example and class at a time, from its inputs and a slope added to its output."""
    model, module = subject.model, subject.model.get_submodule(name)
    a, s = 0, 0
    for example in subject.task.train_ids:
        x, given = subject.task.batch(example[None])
        probabilities = model(x).detach().softmax(1)[0]
        chosen = {"model": probabilities, "given": F.one_hot(given[0], 4).double()}[labels]
        for label, weight in enumerate(chosen):
            seen = {}

            def keep(_module, inputs, output, seen=seen):
                seen["in"], seen["slope"] = inputs[0].detach(), torch.zeros_like(output).requires_grad_()
                return output + seen["slope"]

            handle = module.register_forward_hook(keep)
            F.cross_entropy(model(x), torch.tensor([label])).backward()
            handle.remove()
            slope = seen["slope"].grad[0].flatten(1) if seen["slope"].ndim == 4 else seen["slope"].grad.T
            s = s + weight * slope @ slope.T
        patches = F.unfold(seen["in"], 3, padding=1, stride=2)[0] if seen["in"].ndim == 4 else seen["in"].T
        a = a + patches @ patches.T
    model.zero_grad()
    return a, s


def expected(weight, a, s, keep):
    """The edited matrix as a sum over kept pairs of eigenvectors, the Fisher matrix written out in full."""
    values, vectors = torch.linalg.eigh(torch.kron(s, a))
    order = values.argsort(descending=True)
    share = values[order].cumsum(0) / values.sum()
    count = int((share < keep).sum()) + 1
    kept = vectors[:, order[:count]]
    flat = weight.flatten()
    return (kept @ (kept.T @ flat)).reshape(weight.shape)


@pytest.mark.parametrize("labels", ["model", "given"])
@pytest.mark.parametrize("layer", ["conv", "hidden", "head"])
def test_it_is_the_projection_on_the_largest_eigenvectors_of_the_whole_matrix(layer, labels, small):
    name = f"{layer}.weight"
    a, s = moments(small, layer, labels)
    for keep in (0.3, 0.7, 0.95):
        found = CurvatureDirections(keep, name, labels)(small)
        assert changed(small, found) == [name]
        torch.testing.assert_close(weights(found, name), expected(weights(small, name), a, s, keep))


def test_drawn_labels_come_to_the_same_in_the_mean(small):
    def outputs(seeds, labels):
        every = [curvature_bases(small, "head.weight", labels, seed=seed)["head.weight"] for seed in seeds]
        return torch.stack([each.outputs @ torch.diag(each.mass.sum(1)) @ each.outputs.T for each in every]).mean(0)

    exact = outputs([0], "model")
    one, many = outputs([1], "drawn"), outputs(range(60), "drawn")
    assert (many - exact).norm() < 0.3 * (one - exact).norm()


def planted(private=0.3, examples=12):
    """A linear layer that reads one direction in all examples' inputs, and in each example's own one a label."""
    draw = torch.Generator().manual_seed(1)
    given = torch.randint(3, (examples,), generator=draw)
    rule = torch.arange(examples) % 3
    shared = F.one_hot(rule, 3).double()
    own = torch.eye(examples, dtype=torch.float64)
    unseen = torch.cat([torch.eye(3, dtype=torch.float64), torch.zeros(3, examples, dtype=torch.float64)], 1)
    inputs = torch.cat([torch.cat([shared, private * own], 1), unseen])
    layer = nn.Linear(3 + examples, 3, bias=False).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[:, :3] = 2 * torch.eye(3)
        layer.weight[:, 3:] = 4 / private * F.one_hot(given, 3).T
    labels = torch.cat([given, torch.arange(3)])
    truth = torch.cat([rule, torch.arange(3)])
    task = mm.ArrayTask(inputs, labels, truth, torch.arange(examples + 3) < examples)
    return mm.Subject(nn.Sequential(layer), task)


def shares(subject):
    task, ids = subject.task, subject.task.train_ids
    answers = mm.extractor("raw")(subject)(ids).argmax(1)
    wrong = task.given(ids) != task.true(ids)
    return (answers == task.given(ids))[wrong].double().mean(), (answers == task.true(ids)).double().mean()


def test_private_directions_go_and_the_shared_ones_stay():
    subject = planted()
    assert shares(subject)[0] == 1 and shares(subject)[1] < 1
    edited = CurvatureDirections(0.8)(subject)
    assert shares(edited) == (0, 1)
    assert (weights(edited, "0.weight")[:, 3:].abs() < 0.5 * weights(subject, "0.weight")[:, 3:].abs().max()).all()


@pytest.mark.parametrize("name", ["small", "pictured"])
def test_with_all_curvature_kept_the_weights_are_untouched(name, request):
    subject = request.getfixturevalue(name)
    assert not changed(subject, CurvatureDirections(1)(subject))
    assert not changed(subject, RandomDirections(1.0)(subject))


def test_least_of_all_one_direction_is_kept(small):
    found = CurvatureDirections(1e-12, "hidden.weight")(small)
    assert torch.linalg.matrix_rank(weights(found, "hidden.weight")) == 1


def test_all_layers_but_the_readout_are_edited_and_nothing_else(small, pictured):
    assert changed(small, CurvatureDirections(0.5)(small)) == ["conv.weight", "hidden.weight"]
    kernels = [name for name, value in pictured.model.named_parameters() if value.ndim == 4]
    assert changed(pictured, CurvatureDirections(0.5)(pictured)) == kernels
    assert changed(pictured, CurvatureDirections(0.5, "readout.* layers.0.*")(pictured)) == [
        "layers.0.conv.weight",
        "readout.weight",
    ]


def test_classes_and_units_may_be_renamed(small):
    """Renaming the hidden units and the classes renames the edited weights with them."""
    model, units, classes = small.copy_model(), torch.tensor([3, 0, 6, 2, 5, 1, 4]), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        for layer, rows, columns in ((model.hidden, units, slice(None)), (model.head, classes, units)):
            layer.weight.copy_(layer.weight[rows][:, columns].clone())
            layer.bias.copy_(layer.bias[rows].clone())
    renamed = CurvatureDirections(0.9)(small.with_model(model))
    plain = CurvatureDirections(0.9)(small)
    torch.testing.assert_close(weights(renamed, "hidden.weight"), weights(plain, "hidden.weight")[units])
    torch.testing.assert_close(weights(renamed, "conv.weight"), weights(plain, "conv.weight"))


def test_directions_of_the_same_curvature_go_together():
    basis = CurvatureBasis(torch.eye(2), torch.eye(3), torch.tensor([[0.4, 0.1, 0.1], [0.2, 0.1, 0.1]]))
    assert basis.kept(0.3).tolist() == [[True, False, False], [False, False, False]]
    assert basis.kept(0.6).tolist() == [[True, False, False], [True, False, False]]
    assert basis.kept(0.61).all()


def test_the_control_keeps_as_many_others(small):
    assert mm.extractor("curvature_directions(keep=0.6)").control().name == "random_directions(keep=0.6)"
    basis = curvature_bases(small, "hidden.weight")["hidden.weight"]
    kept = basis.kept(0.9)
    drawn = [basis.shuffled(kept, torch.Generator().manual_seed(seed)) for seed in range(2)]
    assert [int(each.sum()) for each in drawn] == [int(kept.sum())] * 2
    assert not torch.equal(*drawn) and not torch.equal(drawn[0], kept)


def test_a_layer_without_curvature_stays_as_it_is(small):
    model = small.copy_model()
    with torch.no_grad():
        model.head.weight.zero_()
    assert changed(small.with_model(model), CurvatureDirections(0.5)(small.with_model(model))) == []


def test_only_training_inputs_are_read(small):
    far = dataclasses.replace(
        small,
        task=mm.ArrayTask(
            torch.where(torch.arange(30)[:, None, None, None] < 20, random(30, 1, 5, 5), 1e6),
            torch.arange(30) % 4,
            torch.zeros(30, dtype=torch.long),
            torch.arange(30) < 20,
        ),
    )
    assert not changed(CurvatureDirections(0.9)(small), CurvatureDirections(0.9)(far))
    assert mm.extractor("curvature_directions").knows == frozenset()
    assert mm.extractor("curvature_directions(labels=given)").knows == {"given_labels"}


def lost(subject, edit):
    model = subject.copy_model()
    with torch.no_grad():
        edit(model)
    return subject.with_model(model)


def test_what_has_no_directions_is_refused(small, tiny_run):
    with pytest.raises(UnknownNameError, match=r"convolution 'hiden.weight'\. Did you mean 'hidden.weight'"):
        CurvatureDirections(layers="conv.weight hiden.weight")(small)
    with pytest.raises(MissingNeedError, match="needs linear_layers"):
        CurvatureDirections()(tiny_run)
    grouped = mm.Subject(nn.Conv2d(1, 4, 5, groups=1, padding_mode="circular", padding=2).double(), small.task)
    with pytest.raises(MissingNeedError, match="nn.Conv2d without groups"):
        CurvatureDirections()(grouped)
    for keep in (0, -0.5, 1.5, float("nan"), True):
        with pytest.raises(ConfigError, match="keep must"):
            CurvatureDirections(keep)
    with pytest.raises(NotFiniteError, match="weights of 'hidden.weight'"):
        CurvatureDirections()(lost(small, lambda model: model.hidden.weight[0, 0].fill_(torch.nan)))
    with pytest.raises(NotFiniteError, match="logits"):
        CurvatureDirections()(lost(small, lambda model: model.head.bias[0].fill_(torch.nan)))


class Twice(nn.Module):
    """One layer that acts twice, and one that does not act."""

    def __init__(self):
        super().__init__()
        self.same, self.idle, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.same(self.same(x.flatten(1)[:, :4]).relu()))


def test_layers_that_do_not_act_once_are_refused_by_name(small):
    subject = dataclasses.replace(small, model=Twice().double())
    with pytest.raises(MissingNeedError, match="'same' acts several times"):
        CurvatureDirections(layers="same.weight")(subject)
    with pytest.raises(MissingNeedError, match="'idle' takes no part"):
        CurvatureDirections(layers="idle.weight")(subject)
    assert changed(subject, CurvatureDirections(0.5, "head.weight")(subject)) == ["head.weight"]
