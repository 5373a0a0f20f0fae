"""One neuron's card: waves and effects against a network that is run again without it."""

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import mechmem as mm
from mechmem.analyses.neuron_card import NeuronCard, neuron
from mechmem.errors import ConfigError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.forward import logits_of


@pytest.fixture(scope="module", params=["add", "multiply"])
def planted(request):
    return mm.planted_network(11, op=request.param, memorized_fraction=0.3, train_fraction=0.7, dtype=torch.float64)


def margins(logits, labels):
    own = np.take_along_axis(logits, labels[:, None], 1)[:, 0]
    others = logits.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, 1)
    return own - others.max(1)


def test_effects_equal_a_network_without_the_neuron(planted):
    subject, task = planted.subject, planted.subject.task
    m = int(planted.memorizing.nonzero()[0])
    removed = subject.copy_model()
    with torch.no_grad():
        removed.W_out[m] = 0
    whole, without = (logits_of(model, task, task.ids).numpy() for model in (subject.model, removed))
    card = neuron(subject, m)
    frame = card.effects_frame().set_index("split")
    noisy = task.splits["train_noisy"]
    for split, ids, labels in (
        ("train_clean", task.splits["train_clean"], task.given(task.splits["train_clean"])),
        ("train_noisy", noisy, task.given(noisy)),
        ("train_noisy_true", noisy, task.true(noisy)),
        ("test", task.test_ids, task.true(task.test_ids)),
    ):
        rows, wanted = ids.numpy(), labels.numpy()
        before, after = margins(whole[rows], wanted), margins(without[rows], wanted)
        row = frame.loc[split]
        assert row["margin_change"] == pytest.approx((after - before).mean(), abs=1e-9)
        right, still = whole[rows].argmax(1) == wanted, without[rows].argmax(1) == wanted
        assert row["accuracy"] == right.mean() and row["accuracy_without"] == still.mean()
        assert (row["lost"], row["gained"]) == ((right & ~still).sum(), (~right & still).sum())
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"] and row["n"] == len(rows)
        assert row["margin_change_low"] <= row["margin_change"] <= row["margin_change_high"]


def test_a_planted_memory_is_found_in_its_neuron(planted):
    subject, task = planted.subject, planted.subject.task
    first = int(planted.memorizing.nonzero()[0])
    for position in (0, len(planted.cells) - 1):
        card = neuron(subject, first + 2 * position)
        row = card.cells_frame().iloc[0]
        a, b = task.batch(planted.cells[position : position + 1])[0][0].tolist()
        assert (row["a"], row["b"], row["noisy"]) == (a, b, True) and card.label == "memorizing"
        assert row["given"] == int(task.given(planted.cells[position : position + 1]))
        # Four times a half, before the mean over classes is taken out (which is 0).
        assert row["contribution"] == pytest.approx(2.0)
    raised = card.cells.contribution
    assert (raised > 0).all() and (raised[:-1] >= raised[1:]).all()


@pytest.fixture(scope="module")
def untrained():
    """Random weights under multiplication, with logits far below 0, so that nothing is equal by chance."""
    task = mm.ModularTask(mm.ModularConfig(op="multiply", p=11, train_fraction=0.7, noise=mm.LabelNoise(0.4)))
    model = HookedMLP(mm.MLPConfig(width=6, bias=True), 11).double()
    with torch.no_grad():
        model.b_out -= 50
    return mm.Subject(model, task, model.roles)


def test_contributions_and_margins_equal_numpy(untrained):
    task, card = untrained.task, neuron(untrained, 4)
    u, v = untrained.model.W_in.detach().numpy().reshape(2, 11, 6)
    w = untrained.model.W_out.detach().numpy()
    a, b = task.operands.numpy().T
    hidden = np.maximum(u[a] + v[b], 0)
    trained, given = task.train_ids.numpy(), task.given(task.train_ids).numpy()
    raised = hidden[trained, 4] * (w[4, given] - w[4].mean())
    raised = np.sort(raised[raised > 0])[::-1]
    np.testing.assert_allclose(card.cells_frame()["contribution"], raised[:100], rtol=1e-12)
    whole = hidden @ w - 50
    ids = task.test_ids.numpy()
    true = task.true(task.test_ids).numpy()
    change = margins((whole - np.outer(hidden[:, 4], w[4]))[ids], true) - margins(whole[ids], true)
    row = card.effects_frame().set_index("split").loc["test"]
    assert row["margin_change"] == pytest.approx(change.mean(), rel=1e-9)
    for i, first in enumerate(card.axis.tolist()):
        for j, second in enumerate(card.axis.tolist()):
            assert float(card.activation[i, j]) == pytest.approx(hidden[first * 11 + second, 4])


def test_waves_of_a_planted_neuron_are_its_cosines(planted):
    group = planted.subject.task.group
    for m in (0, 7):
        card = neuron(planted.subject, m)
        assert card.label == "generalizing" and card.key == int(planted.frequency[m])
        torch.testing.assert_close(card.fitted, card.values)
        torch.testing.assert_close(card.spectrum.sum(1), torch.ones(3).double())
        torch.testing.assert_close(card.spectrum[:, card.key - 1], torch.ones(3).double())
        assert torch.equal(card.symbols, group.elements)
    u = planted.subject.model.W_in.detach()[: group.p, 7]
    torch.testing.assert_close(card.values[0], u[group.elements])


def test_the_activation_stands_at_its_inputs(planted):
    task = planted.subject.task
    m = int(planted.memorizing.nonzero()[0])
    card = neuron(planted.subject, m)
    a, b = task.batch(planted.cells[:1])[0][0].tolist()
    place = card.axis.tolist().index
    assert float(card.activation[place(a), place(b)]) == 4
    assert float(card.activation.max()) == 4 and int((card.activation == 4).sum()) == 1


def test_symbols_outside_the_group_are_shown():
    planted = mm.planted_network(11, op="multiply")
    card = neuron(planted.subject, len(planted.frequency) - 1)
    assert card.label == "outside" and card.outside[:, 0].tolist() == [1, 1, 0.75] and card.key == 0
    page = card.plot()
    assert [trace.y[0] for trace in page.data if trace.name == "symbol outside the group"] == [1, 1, 0.75]


def test_a_neuron_that_does_not_exist_is_refused(planted):
    width = len(planted.frequency)
    for m in (width, -1):
        with pytest.raises(UnknownNameError, match=f"no neuron {m}: .* numbered 0 … {width - 1}"):
            neuron(planted.subject, m)
    with pytest.raises(ConfigError, match="must be a whole number, got 1.5"):
        neuron(planted.subject, 1.5)
    with pytest.raises(UnknownNameError, match="layer"):
        neuron(planted.subject, 0, point="nowhere")
    assert neuron(planted.subject, np.int64(3)).neuron == 3


def test_without_a_linear_readout_the_reason_stands_in_place_of_the_effects(planted):
    class Squashed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, pairs):
            return torch.tanh(self.inner(pairs))

    own = planted.subject.roles
    roles = mm.Roles(
        input_embedding=mm.Role("inner.W_in", own.input_embedding.pattern, {"operand": 2}),
        readout=mm.Role("inner.W_out", own.readout.pattern),
        hidden=("inner.hook_hidden",),
    )
    card = neuron(mm.Subject(Squashed(planted.subject.copy_model()), planted.subject.task, roles), 0)
    assert card.effects == () and card.cells is None and "not linear" in card.effects_note
    assert card.effects_frame().empty and card.cells_frame().empty and card.activation is not None
    page = card.plot()
    assert any("linear" in str(note.text) for note in page.layout.annotations)
    assert "not linear" in card._repr_html_()


def test_unknown_truth_reads_null():
    planted = mm.planted_network(7, train_fraction=0.6)
    task = planted.subject.task
    train = torch.zeros(49, dtype=torch.bool)
    train[task.train_ids] = True
    true = task.true(task.ids).masked_fill(train, -1)
    known = task.train_ids[0]
    true[known] = task.true(known[None])[0]
    blind = mm.ArrayTask(task.operands, task.given(task.ids), true, train, operation="add", n_classes=7)
    card = neuron(mm.Subject(planted.subject.model, blind, planted.subject.roles), 3)
    frame = card.effects_frame().set_index("split")
    assert list(frame.index) == ["train", "train_clean", "train_noisy", "train_noisy_true", "test"]
    assert frame.loc["train", "n"] == len(task.train_ids) and frame.loc["train_clean", "n"] == 0
    assert frame.loc[["train_clean", "train_noisy"], "margin_change"].isna().all()
    cells = card.cells_frame()
    here = (cells["a"] * 7 + cells["b"] == int(known)).to_numpy()
    assert cells["true"][~here].isna().all() and cells["noisy"][~here].isna().all()
    assert isinstance(card.plot(), go.Figure)


def test_the_page_names_what_it_shows(planted, tmp_path):
    card = neuron(planted.subject, 2)
    page = card.plot()
    assert "neuron 2 of" in page.layout.title.text and "generalizing" in page.layout.title.text
    kinds = [trace.type for trace in page.data]
    assert kinds.count("bar") == 3 and kinds.count("heatmap") == 1
    assert [trace.y.tolist() for trace in page.data if trace.name == "weight"] == card.values.tolist()
    bar = next(trace for trace in page.data if trace.type == "bar")
    assert len(set(bar.marker.color)) == 2, "the key frequency has a colour of its own"
    assert card.to_frame()["vector"].tolist() == ["u", "v", "w"]
    html = card._repr_html_()
    assert html.count("<table") == 3 and "generalizing" in html
    card.save(tmp_path / "card.safetensors")
    loaded = NeuronCard.load(tmp_path / "card.safetensors")
    assert loaded.to_frame().equals(card.to_frame()) and loaded.effects == card.effects
    assert loaded.cells_frame().equals(card.cells_frame())


def test_a_bare_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="got HookedMLP and no task"):
        mm.neuron(mm.planted_network(5).subject.model, 0)  # pyright: ignore[reportArgumentType]
