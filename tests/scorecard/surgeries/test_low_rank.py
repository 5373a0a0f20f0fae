"""Lower ranks of one weight matrix, against torch's own decomposition, on every kind of network."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from torch import nn

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError
from mechmem.scorecard.surgeries.low_rank import LowRank


def truncation(weights, rank):
    u, s, v = torch.linalg.svd(weights.double(), full_matrices=False)
    return (u[..., :rank] @ torch.diag_embed(s[..., :rank]) @ v[..., :rank, :]).to(weights.dtype)


def weights(subject, layer):
    return dict(subject.model.named_parameters())[layer].detach()


def changed(before, after):
    theirs = dict(after.model.named_parameters())
    return [name for name, value in before.model.named_parameters() if not torch.equal(value, theirs[name])]


@pytest.fixture(scope="module")
def pictured():
    task = mm.ImageConfig(train=40, test=30, noise=mm.LabelNoise(0.3))
    config = mm.TrainConfig(task, mm.CNNConfig((3, 4)), steps=2, batch_size=20, checkpoints=1)
    return mm.train(config, progress=False)


@pytest.fixture(scope="module")
def transformer():
    task = mm.ModularConfig(p=7, train_fraction=0.6)
    config = mm.TrainConfig(task, mm.TransformerConfig(d_model=8, heads=2), steps=2, evaluations=1, checkpoints=1)
    return mm.train(config, progress=False)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("layer", ["W_in", "W_out"])
def test_a_matrix_is_its_truncated_decomposition(layer, rank, tiny_run):
    found = LowRank(layer, rank)(tiny_run)
    assert changed(tiny_run, found) == [layer]
    torch.testing.assert_close(weights(found, layer), truncation(weights(tiny_run, layer), rank))
    assert torch.linalg.matrix_rank(weights(found, layer)) == rank


def test_a_kernel_is_one_matrix(pictured):
    layers = [name for name, value in pictured.model.named_parameters() if value.ndim == 4]
    for layer in layers:
        found = LowRank(layer, 2)(pictured)
        kernel = weights(pictured, layer)
        expected = truncation(kernel.flatten(1), 2).reshape(kernel.shape)
        assert changed(pictured, found) == [layer]
        torch.testing.assert_close(weights(found, layer), expected)
    assert layers


def test_each_head_has_a_matrix_of_its_own(transformer):
    found = LowRank("blocks.0.attn.W_Q", 2)(transformer)
    assert changed(transformer, found) == ["blocks.0.attn.W_Q"]
    heads = zip(weights(found, "blocks.0.attn.W_Q"), weights(transformer, "blocks.0.attn.W_Q"), strict=True)
    for lowered, whole in heads:
        torch.testing.assert_close(lowered, truncation(whole, 2))


@pytest.mark.parametrize("name", ["tiny_run", "pictured", "transformer"])
def test_at_full_rank_nothing_changes(name, request):
    subject = request.getfixturevalue(name)
    for layer, value in subject.model.named_parameters():
        if value.ndim >= 2:
            full = min(value.flatten(1).shape if value.ndim == 4 else value.shape[-2:])
            assert not changed(subject, LowRank(layer, full)(subject))
            with pytest.raises(ConfigError, match=f"rank must be at most {full}, the full rank of '{layer}'"):
                LowRank(layer, full + 1)(subject)


def test_a_fraction_is_rounded_down_to_a_rank():
    model = nn.Sequential(nn.Linear(100, 100))
    task = mm.ArrayTask(torch.randn(8, 100), torch.arange(8), torch.arange(8), torch.arange(8) < 5, n_classes=100)
    subject = mm.Subject(model, task)
    for fraction, rank in ((0.29, 29), (0.999, 99), (0.001, 1), (np.float32(0.5), 50)):
        assert torch.linalg.matrix_rank(weights(LowRank("0.weight", fraction)(subject), "0.weight")) == rank
    assert mm.extractor("low_rank(0.weight,0.5)").surgeries[0] == LowRank("0.weight", 0.5)


def test_the_layer_is_the_readout_or_the_last_matrix(tiny_run):
    assert changed(tiny_run, LowRank(rank=1)(tiny_run)) == ["W_out"]
    without = mm.Subject(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5)), tiny_run.task)
    assert changed(without, LowRank(rank=1)(without)) == ["2.weight"]


def test_several_matrices_are_lowered_each_on_its_own(pictured):
    layers = [name for name, value in pictured.model.named_parameters() if value.ndim == 4]
    together = LowRank("layers.*", 2)(pictured)
    assert changed(pictured, together) == layers and len(layers) == 2
    for layer in layers:
        assert torch.equal(weights(together, layer), weights(LowRank(layer, 2)(pictured), layer))
    assert changed(pictured, LowRank(f"readout.weight {layers[1]}", 1)(pictured)) == [layers[1], "readout.weight"]
    with pytest.raises(UnknownNameError, match=r"'layer\.\*'"):
        LowRank("readout.weight layer.*")(pictured)
    with pytest.raises(ConfigError, match="full rank of 'layers.0.conv.weight'"):
        LowRank("layers.*", 4)(pictured)


def test_what_has_no_rank_is_refused(tiny_run):
    with pytest.raises(UnknownNameError, match=r"no parameter with at least two axes 'W_ou'\. Did you mean 'W_out'"):
        LowRank("W_ou")(tiny_run)
    with pytest.raises(MissingNeedError, match="at least two axes has no rank"):
        LowRank()(mm.Subject(nn.BatchNorm1d(2), tiny_run.task))
    model = tiny_run.copy_model()
    with torch.no_grad():
        model.W_out[0, 0] = torch.nan
    with pytest.raises(NotFiniteError, match="weights of 'W_out'"):
        LowRank("W_out", 1)(tiny_run.with_model(model))


def test_a_rank_curve_measures_the_surgery(tiny_run, tmp_path):
    curve = mm.rank_curve(tiny_run, "W_out", [5, 1, 3, 0.6])
    assert curve.ranks.tolist() == [1, 3, 5] and curve.full == 5
    frame, task = curve.to_frame(), tiny_run.task
    for rank in (1, 3, 5):
        answers = mm.extractor(f"low_rank(W_out,{rank})")(tiny_run)(task.ids).argmax(1)
        found = frame[frame["rank"] == rank].set_index("split")["accuracy"]
        given = answers[task.rows(task.train_ids)] == task.given(task.train_ids)
        test = answers[task.rows(task.test_ids)] == task.true(task.test_ids)
        assert found["train"] == float(given.double().mean()) and found["test"] == float(test.double().mean())
    curve.save(tmp_path / "curve.safetensors")
    assert mm.RankCurve.load(tmp_path / "curve.safetensors").to_frame().equals(frame)
    assert isinstance(curve.plot(), go.Figure) and "knee" in curve.plot().layout.xaxis.title.text
    torch.testing.assert_close(curve.values, torch.linalg.svdvals(weights(tiny_run, "W_out").double()))


@pytest.mark.parametrize("ranks", [np.array([1, 3]), torch.tensor([3, 1]), (1, np.int64(3)), [np.float32(0.2), 0.6]])
def test_ranks_may_be_an_array(ranks, tiny_run):
    assert mm.rank_curve(tiny_run, "W_out", ranks).ranks.tolist() == [1, 3]


def test_ranks_are_a_list(tiny_run):
    with pytest.raises(ConfigError, match="ranks must be a list of numbers"):
        mm.rank_curve(tiny_run, "W_out", torch.tensor([[1, 2]]))


@pytest.mark.parametrize("name", ["pictured", "transformer"])
def test_a_rank_curve_goes_from_1_to_the_full_rank(name, request):
    curve = mm.rank_curve(request.getfixturevalue(name))
    assert curve.ranks[0] == 1 and curve.ranks[-1] == curve.full and curve.knee() in curve.ranks


def curve(fitted):
    n = len(fitted)
    counts = torch.zeros(n, 4, dtype=torch.long)
    return mm.RankCurve("w", n, torch.arange(1, n + 1), counts[0], counts, 100, torch.tensor(fitted), torch.ones(n))


@pytest.mark.parametrize(
    ("fitted", "knee"),
    [
        ([0.1, 0.5, 0.9, 0.92, 0.95, 1.0], 3),
        ([0.0, 0.25, 0.5, 0.75, 1.0], 5),  # a straight line
        ([0.0, 0.1, 0.2, 0.5, 1.0], 5),
        ([0.3, 0.3, 0.3], 3),
        ([0.1, 0.9], 2),
        ([0.4], 1),
    ],
)
def test_the_knee_is_where_the_curve_is_farthest_above_its_chord(fitted, knee):
    assert curve(fitted).knee() == knee


def test_without_an_answer_there_is_no_knee():
    lost = curve([0.1, float("nan"), 1.0])
    with pytest.raises(NotFiniteError, match="knee is not known"):
        lost.knee()
    assert isinstance(lost.plot(), go.Figure)


def test_truth_is_needed_for_no_knee(tiny_run):
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    train, sums = torch.arange(25) < 20, pairs.sum(1) % 5
    task = mm.ArrayTask(pairs, sums, torch.where(train, -1, sums), train, operands=pairs)
    found = mm.rank_curve(mm.Subject(tiny_run.model, task, tiny_run.roles))
    assert found.knee() in found.ranks and found.n.tolist() == [0, 0, 0, 5] and not found.fitted.isnan().any()
