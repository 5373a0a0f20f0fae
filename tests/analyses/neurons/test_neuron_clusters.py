import itertools

import numpy as np
import pytest
import torch
from einops import repeat
from small_transformer import small_transformer
from torch import nn
from transformer_lens.hook_points import HookPoint

import mechmem as mm
from mechmem.analyses.neurons.neuron_clusters import NeuronClusters, NeuronClustersResult
from mechmem.core.roles import Output, Roles
from mechmem.errors import ConfigError, MissingNeedError


class Table(nn.Module):
    """Neurons that are given functions of the pair, at one position or at the second of three."""

    def __init__(self, values, p, sequence):
        super().__init__()
        self.register_buffer("values", values)
        self.p, self.sequence = p, sequence
        self.hook_post = HookPoint()

    def forward(self, pairs):
        found = self.values[pairs[:, 0] * self.p + pairs[:, 1]]
        if self.sequence:
            found = repeat(found, "e n -> e q n", q=3) * torch.tensor([[0.0], [1.0], [0.0]])
        return self.hook_post(found)[..., : self.p]


def planted(op, p, functions, *, sequence=False):
    """A subject whose neurons are functions of the positions of a and b in the group."""
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.6))
    n, place = len(task.group.elements), task.group.logarithm.numpy()
    cells = np.array(list(itertools.product(range(p), range(p))))
    a, b = (2 * np.pi * place[x] / n for x in cells.T)
    inside = (place[cells] >= 0).all(1)
    # Outside the group something wild, which must not count.
    values = np.stack([np.where(inside, each(a, b), 1e6) for each in functions], 1)
    values = np.concatenate([values, np.zeros((p * p, max(0, p - len(functions))))], 1)
    output = Output(position=1) if sequence else Output()
    model = Table(torch.from_numpy(values), p, sequence)
    return mm.Subject(model, task, Roles(hidden=("hook_post",), output=output))


FUNCTIONS = [
    lambda a, b: np.cos(2 * (a + b)) + 5,
    lambda a, b: np.cos(3 * a) * np.sin(3 * b) + np.cos(3 * b),
    lambda a, b: np.cos(2 * a) + 0.5 * np.cos(b),  # .8 of it frequency 2
    lambda a, b: 0.3 * np.cos(2 * a) + np.cos(b - a),
]


@pytest.mark.parametrize(("op", "p"), [("add", 9), ("subtract", 8), ("multiply", 11)])
@pytest.mark.parametrize("sequence", [False, True])
def test_planted_neurons_fall_into_their_clusters(op, p, sequence):
    result = NeuronClusters(random_neurons=50)(planted(op, p, FUNCTIONS, sequence=sequence))
    assert result.key.tolist()[:4] == [2, 3, 2, 1]
    assert result.share[:4].tolist() == pytest.approx([1, 1, 0.8, 1 / (1 + 0.09)])
    assert result.cluster.tolist()[:4] == [2, 3, 0, 1]
    assert not result.key[4:].any() and not result.share[4:].any(), "silent neurons have no frequency"
    assert result.clustered == pytest.approx(3 / p)
    assert result.n_outside == (2 * p - 1 if op == "multiply" else 0)
    assert result.variance[0] == pytest.approx(0.5)
    table = result.clusters()
    assert table["frequency"].tolist() == [1, 2, 3, 0] and table["neurons"].tolist() == [1, 1, 1, p - 3]
    assert NeuronClusters(threshold=0.8 - 1e-9)(planted(op, p, FUNCTIONS)).cluster[2] == 2


def test_the_order_and_the_split_of_examples_do_not_matter():
    subject = planted("add", 9, FUNCTIONS)
    shuffled = torch.randperm(81, generator=torch.Generator().manual_seed(0))
    task = subject.task
    arrays = mm.ArrayTask(
        task.operands[shuffled],
        task.given(shuffled),
        task.true(shuffled),
        torch.arange(81) < 40,
        operands=task.operands[shuffled],
        operation="add",
        n_classes=9,
    )
    one, two = NeuronClusters()(subject), NeuronClusters()(mm.Subject(subject.model, arrays, subject.roles))
    torch.testing.assert_close(one.explained, two.explained, rtol=0, atol=1e-12)


def test_random_neurons_are_relu_of_sums_and_seldom_of_one_frequency():
    result = NeuronClusters()(planted("add", 31, FUNCTIONS))
    draw = np.random.default_rng(0)
    u, v = draw.normal(size=(2, 31, 400))
    values = np.maximum(u[:, None] + v[None], 0)
    modes = np.abs(np.fft.fft2(values - values.mean((0, 1)), axes=(0, 1))) ** 2
    k = np.arange(1, 16)
    block = sum(modes[x, y] for x in (0, k, -k) for y in (0, k, -k) if not (np.isscalar(x) and np.isscalar(y)))
    expected = (block / modes.sum((0, 1))).max(0)
    assert float(result.random.amax(0).mean()) == pytest.approx(expected.mean(), rel=0.04)
    assert result.random_clustered == 0 and result.random.shape == (15, 512)
    assert not torch.equal(NeuronClusters(seed=1)(planted("add", 31, FUNCTIONS)).random, result.random)


def test_a_transformer_is_read_where_it_answers():
    subject = small_transformer()
    result = NeuronClusters()(subject)
    hidden = mm.activations(subject, "blocks.0.mlp.hook_post", ids=subject.task.ids)["blocks.0.mlp.hook_post"][:, -1]
    torch.testing.assert_close(result.variance, hidden.var(0, correction=0))
    assert result.explained.shape == (3, 20) and (result.explained.sum(0) <= 1 + 1e-9).all()


def test_figures_name_clusters_and_their_null(tmp_path):
    result = NeuronClusters()(planted("add", 9, FUNCTIONS))
    figure = result.plot()
    titles = [note.text for note in figure.layout.annotations]
    assert "33.3% of 9 neurons ≥ 85%, 3 clusters" in titles[0] and "random ReLU neurons" in titles[1]
    # Sorted by cluster; what belongs to none comes last.
    drawn = np.array(figure.data[0].z)
    assert (drawn[:, :3].argmax(0) + 1).tolist() == [1, 2, 3]
    assert len(result.plot_histogram().data) == 2
    assert result.to_frame()["key_frequency"].isna().sum() == 5
    result.save(tmp_path / "r.safetensors")
    assert NeuronClustersResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())


def test_what_it_cannot_sort_is_refused():
    with pytest.raises(MissingNeedError, match="at least two frequencies"):
        NeuronClusters()(planted("add", 3, FUNCTIONS[:1]))
    with pytest.raises(MissingNeedError, match="role:hidden"):
        NeuronClusters()(mm.Subject(nn.Linear(2, 2), planted("add", 9, FUNCTIONS).task))
    with pytest.raises(ConfigError):
        NeuronClusters(threshold=1.5)
