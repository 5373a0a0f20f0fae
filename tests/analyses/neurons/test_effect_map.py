"""Effect maps: planted cells name exactly their neurons; contributions and flips against numpy."""

import dataclasses

import numpy as np
import pytest
import torch
from plugin_names import score

import mechmem as mm
from mechmem.analyses.neurons.effect_map import EffectMap
from mechmem.errors import MissingNeedError, NotLinearError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.networks.transformer import HookedModularTransformer
from mechmem.models.reading.linear_readout import linear_readout
from mechmem.plotting.style import SPLIT_STYLES


@pytest.fixture(scope="module")
def found(planted):
    return EffectMap()(planted.subject)


@pytest.fixture(scope="module")
def trained():
    """A trained network with a bias, some of its noisy cells memorized."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=7, train_fraction=0.7, noise=mm.LabelNoise(0.4)),
        model=mm.MLPConfig(width=24, bias=True),
        steps=60,
        lr=0.01,
        evaluations=1,
        checkpoints=1,
    )
    run = mm.train(config, progress=False)
    return mm.Subject(run.model.double(), run.task, run.roles)


def contributions(subject):
    """The reference: the full matrix. Shape (cell, neuron)."""
    task, readout = subject.task, linear_readout(subject)
    hidden, weights = readout.hidden[task.rows(task.train_ids)].numpy(), readout.weights.numpy()
    return hidden * (weights - weights.mean(1, keepdims=True))[:, task.given(task.train_ids).numpy()].T


def test_planted_cells_name_exactly_their_neurons(found, planted):
    frame = found.to_frame().set_index("id")
    firing = planted.memorizing.nonzero().flatten()[::2].tolist()
    memorized = frame.loc[planted.cells.tolist()]
    assert memorized["top_neuron"].tolist() == firing
    assert memorized["flips"].all() and (memorized["flipping_neurons"] == 1).all()
    assert memorized["noisy"].all() and memorized["fitted"].all() and (memorized["given"] != memorized["true"]).all()
    others = frame.drop(planted.cells.tolist())
    assert not others["noisy"].any()
    # The second neuron of a pair balances the first in its row and column: alone, it may turn other cells, the rule's
    # neurons none.
    assert planted.memorizing[found.flip_neuron].all()
    for cell, neuron in zip(planted.cells.tolist(), firing, strict=True):
        named = found.neurons_of(cell)
        assert named["neuron"][0] == neuron and named["neuron"][named["flips"]].tolist() == [neuron]
        held = found.cells_of(neuron)
        assert held.loc[held["noisy"] & held["flips"], "id"].tolist() == [cell] and held["id"][0] == cell
    per_neuron = found.per_neuron()
    assert per_neuron.index[per_neuron["noisy_cells"] > 0].tolist() == firing
    assert (per_neuron.loc[firing, ["noisy_cells", "top_of_noisy"]] == 1).all().all()


def test_the_low_ipr_neurons_hold_the_memorized_cells(planted, found):
    """The halves are of equal size, so only the cells' order is certain: every memorized one above every clean one."""
    frame = found.to_frame()
    memorized = frame["noisy"].astype(bool)
    assert frame.loc[memorized, "balance"].min() > frame.loc[~memorized, "balance"].max()


def test_contributions_equal_numpy(trained):
    found, matrix = EffectMap(ranks=5)(trained), contributions(trained)
    assert np.allclose(found.contribution, -np.sort(-matrix, 1)[:, :5])
    assert np.allclose(found.total, matrix.sum(1)) and np.allclose(found.positive, matrix.clip(0).sum(1))
    task = trained.task
    logits = linear_readout(trained).logits[task.rows(task.train_ids)]
    bias = trained.model.b_out.detach()
    centred = logits - logits.mean(1, keepdim=True) - (bias - bias.mean())
    assert torch.allclose(found.total, centred[torch.arange(len(logits)), task.given(task.train_ids)])
    ipr = score("ipr")(trained).values.numpy()
    low = np.argsort(ipr, kind="stable")[:12]
    assert np.allclose(found.balance, 2 * matrix[:, low].sum(1) - matrix.sum(1))
    frame = found.to_frame()
    assert np.allclose(frame["share"], matrix.max(1) / matrix.clip(0).sum(1))
    assert (frame["fitted"] == (logits.argmax(1) == task.given(task.train_ids)).numpy()).all()


def test_flips_and_tables_equal_a_loop(trained):
    found, matrix = EffectMap(ranks=3)(trained), contributions(trained)
    task, readout = trained.task, linear_readout(trained)
    rows, given = task.rows(task.train_ids), task.given(task.train_ids)
    fitted = readout.logits[rows].argmax(1) == given
    lost = np.zeros(matrix.shape, dtype=bool)
    for m in range(24):
        without = readout.logits[rows] - torch.outer(readout.hidden[rows, m], readout.weights[m])
        lost[:, m] = fitted & (without.argmax(1) != given)
    assert lost.any()
    frame, noisy = found.to_frame(), task.noisy.numpy()
    assert frame["flipping_neurons"].tolist() == lost.sum(1).tolist()
    assert frame["flips"].tolist() == lost[np.arange(len(rows)), matrix.argmax(1)].tolist()
    per_neuron = found.per_neuron()
    assert per_neuron["noisy_cells"].tolist() == lost[noisy].sum(0).tolist()
    assert per_neuron["clean_cells"].tolist() == lost[~noisy].sum(0).tolist()
    assert per_neuron["top_of_clean"].tolist() == np.bincount(matrix[~noisy].argmax(1), minlength=24).tolist()
    order = np.argsort(-matrix, axis=1)
    for cell in range(len(rows)):
        wanted = set(order[cell, :3]) | set(np.nonzero(lost[cell])[0])
        named = found.neurons_of(int(task.train_ids[cell]))
        assert set(named["neuron"]) == wanted and named["contribution"].is_monotonic_decreasing
        assert np.allclose(named["contribution"], matrix[cell, named["neuron"]])
        assert named["flips"].tolist() == lost[cell, named["neuron"]].tolist()
        assert named["rank"].dropna().tolist() == [1, 2, 3]
    for m in range(24):
        held = found.cells_of(m)
        wanted = (order[:, :3] == m).any(1) | lost[:, m]
        assert set(held["id"]) == set(task.train_ids[torch.from_numpy(wanted)].tolist())
        assert held["contribution"].is_monotonic_decreasing


def test_what_is_not_there_is_refused(found, planted):
    with pytest.raises(UnknownNameError, match="numbered 0 …"):
        found.cells_of(found.width)
    with pytest.raises(UnknownNameError, match="training cells"):
        found.neurons_of(int(planted.subject.task.test_ids[0]))
    with pytest.raises(UnknownNameError, match="ipr"):
        EffectMap(by="irp")


def test_a_readout_that_is_not_linear_is_refused(trained):
    class Curved(HookedMLP):
        def forward(self, pairs):
            return super().forward(pairs).tanh()

    model = Curved(mm.MLPConfig(width=24), 7).double()
    with pytest.raises(NotLinearError):
        EffectMap()(mm.Subject(model, trained.task, model.roles))


def test_a_readout_of_a_residual_stream_is_said_to_be_one(trained):
    model = HookedModularTransformer(mm.TransformerConfig(layers=1, d_model=8, heads=2), 7)
    with pytest.raises(MissingNeedError, match="embedding and readout belong to a residual stream") as error:
        EffectMap()(mm.Subject(model, trained.task, model.roles))
    assert not isinstance(error.value, NotLinearError)


def test_without_truth_or_group_it_says_less(planted):
    task = planted.subject.task
    train = torch.isin(task.ids, task.train_ids)
    unknown = torch.where(train, -1, task.true(task.ids))
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, operands=task.operands, n_classes=7)
    found = EffectMap()(dataclasses.replace(planted.subject, task=arrays))
    frame = found.to_frame()
    assert frame["true"].isna().all() and frame["noisy"].isna().all() and frame["balance"].isna().all()
    assert "group" in found.balance_note and (found.per_neuron()["clean_cells"] == 0).all()
    # The picture then shows how much of a cell hangs on one neuron.
    assert "share" in found.plot().data[0].colorbar.title.text
    other = EffectMap(by="weight_norm")(dataclasses.replace(planted.subject, task=arrays))
    assert other.balance is not None and EffectMap(by="weight_norm").told() == {
        "pairs", "given_labels", "true_train_labels", "noise_mask"
    }  # fmt: skip


def test_draws_cells_by_the_half_that_holds_them(found, planted):
    figure = found.plot()
    heat, memorized = figure.data[:2]
    z = np.asarray(heat.z)
    frame = found.to_frame()
    assert np.isfinite(z).sum() == len(frame) and heat.zmin == -heat.zmax
    assert np.allclose(z[frame["a"], frame["b"]], frame["balance"], rtol=1e-6)
    assert heat.colorscale[0][1] == SPLIT_STYLES["train_clean"].color
    cells = set(zip(memorized.y, memorized.x, strict=True))
    pairs = planted.subject.task.batch(planted.cells)[0]
    assert cells == {tuple(pair) for pair in pairs.tolist()} and memorized.name == f"memorized ({len(pairs)})"
    assert figure.layout.xaxis.title.text == "b" and "(logits)" in heat.colorbar.title.text


def test_one_neuron_has_no_halves_and_a_map_all_the_same():
    task = mm.ModularTask(mm.ModularConfig(p=5, train_fraction=0.7, noise=mm.LabelNoise(0.3)))
    model = HookedMLP(mm.MLPConfig(width=1), 5)
    found = EffectMap()(mm.Subject(model, task, model.roles))
    assert found.balance is None and found.balance_note == "a single neuron cannot be halved"
    assert (found.to_frame()["top_neuron"] == 0).all()
