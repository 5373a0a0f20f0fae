import dataclasses
import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.neurons.direct_logit_attribution import DirectLogitAttribution, DirectLogitAttributionResult
from mechmem.core.subject import Subject
from mechmem.errors import MissingNeedError, NotLinearError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.tasks.build import build_task

SPLITS = ("train_clean", "train_noisy", "train_noisy_true", "test")


@pytest.fixture(scope="module", params=["add", "subtract", "multiply"])
def subject(request):
    """A random ReLU network with a bias, in float64."""
    task = mm.ModularTask(mm.ModularConfig(op=request.param, p=7, train_fraction=0.7, noise=mm.LabelNoise(0.4)))
    model = HookedMLP(mm.MLPConfig(width=10, bias=True), 7, seed=1).double()
    model.b_out.data = torch.randn(7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Subject(model, task, model.roles)


def by_loops(subject, split):
    """Contributions of neurons and bias, cell by cell, with numpy."""
    task, model = subject.task, subject.model
    w_in, w_out, bias = (x.detach().numpy() for x in (model.W_in, model.W_out, model.b_out))
    ids = task.splits[split.removesuffix("_true")]
    labels = (task.given if split == "train_noisy" else task.true)(ids).tolist()
    logit, margin, offset = [], [], []
    for (a, b), y in zip(task.operands[ids].tolist(), labels, strict=True):
        hidden = np.maximum(w_in[a] + w_in[7 + b], 0)
        scores = hidden @ w_out + bias
        rival = max((c for c in range(7) if c != y), key=lambda c: scores[c])  # noqa: B023
        logit.append(hidden * (w_out[:, y] - w_out.mean(1)))
        margin.append(hidden * (w_out[:, y] - w_out[:, rival]))
        offset.append((bias[y] - bias.mean(), bias[y] - bias[rival]))
    return np.mean(logit, 0), np.mean(margin, 0), np.mean(offset, 0)


def test_contributions_equal_loops(subject):
    result = DirectLogitAttribution()(subject)
    assert result.splits == SPLITS
    for place, split in enumerate(SPLITS):
        logit, margin, offset = by_loops(subject, split)
        np.testing.assert_allclose(result.neurons[0, place], logit, atol=1e-12)
        np.testing.assert_allclose(result.neurons[1, place], margin, atol=1e-12)
        np.testing.assert_allclose(result.bias[:, place], offset, atol=1e-12)


def test_neurons_and_bias_sum_to_the_networks_own_logit_and_margin(subject):
    result = DirectLogitAttribution()(subject)
    torch.testing.assert_close(result.neurons.sum(-1) + result.bias, result.total, atol=1e-12, rtol=0)
    task = subject.task
    logits = subject.model(task.batch(task.test_ids)[0]).detach()
    true = task.true(task.test_ids)[:, None]
    own = logits.gather(1, true)[:, 0]
    assert float(result.total[0, 3]) == pytest.approx(float((own - logits.mean(1)).mean()))
    others = logits.scatter(1, true, -math.inf).max(1).values
    assert float(result.total[1, 3]) == pytest.approx(float((own - others).mean()))


def test_frequencies_are_sums_over_neurons(subject):
    result = DirectLogitAttribution()(subject)
    frame, pooled = result.to_frame(), result.by_frequency()
    sums = frame.groupby(["quantity", "split", "frequency"])["value"].agg(["sum", "size"])
    for row in pooled.itertuples():
        expected = sums.loc[(row.quantity, row.split, row.frequency)]
        assert row.value == pytest.approx(expected["sum"]) and row.neurons == expected["size"]
        assert row.low <= row.value <= row.high
    assert len(pooled) == len(sums) and len(frame) == 2 * 4 * 10


def test_planted_memories_carry_the_noisy_labels_and_the_rule_the_true_ones():
    planted = mm.planted_network(11, memorized_fraction=0.2, dtype=torch.float64)
    result = DirectLogitAttribution()(planted.subject)
    rule = result.frequency == planted.frequency
    assert rule[~planted.memorizing].all(), "key frequencies are the planted ones"
    memory = result.neurons[1][:, planted.memorizing].sum(1)
    own = result.neurons[1][:, ~planted.memorizing].sum(1)
    clean, noisy, noisy_true, test = range(4)
    assert float(memory[noisy]) == pytest.approx(2, abs=0.3)
    assert memory[noisy_true] < -2 and abs(memory[test]) < 1e-9
    assert own[clean] > 0.5 and own[test] > 0.5 and own[noisy] < 0


def test_blocks_do_not_matter(subject, monkeypatch):
    before = DirectLogitAttribution()(subject)
    monkeypatch.setattr("mechmem.analyses.neurons.direct_logit_attribution.BLOCK_ELEMENTS", 30)
    after = DirectLogitAttribution()(dataclasses.replace(subject))
    torch.testing.assert_close(after.neurons, before.neurons, atol=1e-12, rtol=0)


def test_a_network_that_is_not_linear_in_its_neurons_is_refused(subject):
    class Squashed(HookedMLP):
        def forward(self, pairs):
            return torch.tanh(super().forward(pairs))

    model = Squashed(mm.MLPConfig(width=10), 7, seed=1).double()
    with pytest.raises(NotLinearError, match="not linear"):
        DirectLogitAttribution()(Subject(model, subject.task, model.roles))


def test_the_figure_has_a_line_per_split_and_a_panel_per_quantity(subject, tmp_path):
    result = DirectLogitAttribution()(subject)
    figure = result.plot()
    assert {note.text for note in figure.layout.annotations} == {
        "label's logit over the mean class",
        "label's margin over the strongest rival",
    }
    assert sum(trace.showlegend is not False for trace in figure.data) == 4
    assert "logits" in figure.layout.yaxis.title.text and "frequency" in figure.layout.xaxis.title.text
    result.save(tmp_path / "r.safetensors")
    assert torch.equal(DirectLogitAttributionResult.load(tmp_path / "r.safetensors").neurons, result.neurons)


def test_frequencies_are_whole_numbers_and_representations_are_not_joined(subject):
    axis = DirectLogitAttribution()(subject).plot().layout.xaxis
    assert axis.dtick == 1 and axis.tickvals is None
    config = mm.GroupConfig("S3", train_fraction=0.7, noise=mm.LabelNoise(0.3))
    task = build_task(config)
    model = HookedMLP(mm.MLPConfig(width=10), 6, seed=1).double()
    result = DirectLogitAttribution()(Subject(model, task, model.roles))
    assert result.labels == task.group.labels
    frame = result.by_frequency()
    assert frame["label"].tolist() == [task.group.labels[k - 1] for k in frame["frequency"]]
    figure = result.plot()
    assert {trace.mode for trace in figure.data} == {"markers"} and figure.layout.xaxis2.title.text == "representation"
    assert list(figure.layout.xaxis2.ticktext) == frame["label"].unique().tolist()
    rows = frame.query("quantity == 'logit' and split == 'test'")
    trace = next(trace for trace in figure.data if trace.name == "test")
    assert list(trace.y) == rows["value"].tolist()
    np.testing.assert_allclose(trace.error_y.array, rows["high"] - rows["value"])


def test_a_table_of_logits_has_no_neurons(planted):
    from mechmem.scorecard.controls import LogitTable

    task = planted.subject.task
    with pytest.raises(MissingNeedError, match="role:hidden, role:input_embedding, role:readout"):
        DirectLogitAttribution()(Subject(LogitTable(torch.zeros(49, 7), task), task))


def test_neurons_without_energy_stand_at_no_frequency(subject):
    silent = subject.with_model(subject.copy_model())
    with torch.no_grad():
        silent.model.W_in[:, :4] = 1
        silent.model.W_out[:4] = 0.5
    result = DirectLogitAttribution()(silent)
    assert result.frequency[:4].tolist() == [0] * 4 and bool((result.frequency[4:] > 0).all())
    counts = result.by_frequency().groupby("frequency")["neurons"].first()
    assert counts[0] == 4 and counts.sum() == 10
