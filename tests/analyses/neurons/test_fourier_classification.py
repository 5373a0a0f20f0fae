"""Planted networks are sorted without error, untrained ones at the stated false-positive rate."""

import math

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

import mechmem as mm
from mechmem.analyses.neurons.fourier_classification import STYLES, FourierClassification, FourierClassificationResult
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.math.fourier_neurons import CLASSES, GENERALIZING, MEMORIZING
from mechmem.models.networks.mlp import HookedMLP
from mechmem.plotting.style import SPLIT_STYLES


def untrained(p, width, op="add", tied=False, seed=0):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    model = HookedMLP(mm.MLPConfig(width=width, tied=tied), p, seed)
    return mm.Subject(model, task, model.roles)


@pytest.mark.parametrize(
    ("p", "op"),
    [(4, "add"), (7, "add"), (12, "subtract"), (59, "add"), (59, "subtract"), (59, "multiply"), (7, "multiply")],
)
def test_planted_neurons_are_sorted_without_error(p, op):
    planted = mm.planted_network(p, op=op, memorized_fraction=0.2)
    found = FourierClassification()(planted.subject)
    wanted = np.where(planted.frequency > 0, "generalizing", np.where(planted.memorizing, "memorizing", "outside"))
    assert found.labels.tolist() == wanted.tolist()
    rule = planted.frequency > 0
    assert torch.equal(found.features.key[rule], planted.frequency[rule])
    error = found.features.phase[:, rule] - planted.phases[:, rule]
    assert float((1 - torch.cos(error)).abs().max()) < 1e-5
    frame = found.to_frame()
    assert found.operation == op and frame[f"alignment_{op}"][rule.numpy()].abs().max() < 1e-3
    assert found.covered == 1 and found.coverage()["generalizing"].sum() == int(rule.sum())
    assert found.counts()["neurons"].sum() == len(frame)


@pytest.mark.parametrize(("p", "op", "tied"), [(13, "add", False), (59, "multiply", False), (59, "add", True)])
def test_untrained_neurons_pass_at_the_stated_rate(p, op, tied):
    width, alpha = 8000, 0.01
    found = FourierClassification(false_positive_rate=alpha)(untrained(p, width, op, tied))
    # Four standard deviations of the count and of the threshold.
    margin = 4 * math.sqrt(alpha * (1 / width + 1 / found.null.neurons))
    common = float((found.features.share > found.share_threshold).double().mean())
    assert abs(common - alpha) < margin
    assert float((found.classes == GENERALIZING).double().mean()) < alpha / 2 + margin
    assert float((found.classes == MEMORIZING).double().mean()) > 1 - alpha - margin


def test_the_rate_is_a_setting():
    subject = untrained(31, 4000)
    strict, loose = (FourierClassification(false_positive_rate=rate)(subject) for rate in (0.002, 0.2))
    assert strict.share_threshold > loose.share_threshold
    assert abs(loose.null.common_rate.value - 0.2) < 0.02
    assert (strict.false_positive_rate, loose.false_positive_rate) == (0.002, 0.2)


def test_another_operation_makes_neurons_mixed():
    planted = mm.planted_network(31)
    other = mm.planted_network(31, op="subtract")
    swapped = mm.Subject(planted.subject.model, other.subject.task, planted.subject.roles)
    labels = FourierClassification()(swapped).labels
    share = np.mean(labels == "generalizing")
    assert set(labels) == {"generalizing", "mixed"} and 0.15 < share < 0.35


def test_dead_neurons_and_weights_that_are_not_finite():
    planted = mm.planted_network(13)
    with torch.no_grad():
        planted.subject.model.W_out[4] *= 1e-6
    found = FourierClassification()(planted.subject)
    assert found.labels[4] == "dead" and np.delete(found.labels, 4).tolist() == ["generalizing"] * 239
    with torch.no_grad():
        planted.subject.model.W_out[4] = torch.nan
    with pytest.raises(ScoreError, match="w holds weights that are not finite"):
        FourierClassification()(planted.subject)


def test_what_cannot_be_classified_is_refused():
    with pytest.raises(MissingNeedError, match="at least two frequencies"):
        FourierClassification()(mm.planted_network(3).subject)
    for settings, match in (
        ({"false_positive_rate": 1e-4}, "fewer than 10"),
        ({"false_positive_rate": 1.5}, "must lie in"),
        ({"max_alignment_error": 4.0}, "at most π"),
        ({"max_alignment_error": 0.0}, "greater than 0"),
    ):
        with pytest.raises(ConfigError, match=match):
            FourierClassification(**settings)


class Deep(torch.nn.Module):
    """Two layers of neurons: the first has u and v, the last w."""

    def __init__(self, p, width):
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(2, p, width))
        self.middle = torch.nn.Parameter(torch.randn(width, width))
        self.last = torch.nn.Parameter(torch.randn(width, p))

    def forward(self, pairs):
        hidden = torch.relu(self.first[0, pairs[:, 0]] + self.first[1, pairs[:, 1]])
        return torch.relu(hidden @ self.middle) @ self.last


def test_layers_with_some_of_the_vectors_are_classified_by_what_they_have():
    torch.manual_seed(0)
    p, model = 13, Deep(13, 20)
    with torch.no_grad():
        model.last[3] = torch.cos(2 * torch.pi * 6 * torch.arange(p) / p + 1)
    roles = mm.Roles(
        input_embedding=mm.Role("first", "operand p neuron -> operand p neuron"),
        readout=mm.Role("last", "neuron classes -> neuron classes"),
        hidden=("one", "two"),
    )
    subject = mm.Subject(model, untrained(p, 2).task, roles)
    last = FourierClassification()(subject)
    assert last.features.names == ("w",) and last.labels[3] == "mixed" and last.features.key[3] == 6
    assert not last.alignment and last.operation == "" and last.null.generalizing_rate is None
    assert "phase_w" in last.to_frame() and "phase_u" not in last.to_frame()
    assert len(last.plot().data), "phases cannot be compared, and the histograms are drawn"
    with pytest.raises(MissingNeedError, match="u, v and w"):
        last.plot_phases()
    assert FourierClassification(point="one")(subject).features.names == ("u", "v")


@pytest.fixture(scope="module")
def mixed_network():
    planted = mm.planted_network(13, memorized_fraction=0.3)
    return FourierClassification()(planted.subject)


def test_figures_show_every_neuron_in_its_class(mixed_network):
    figure = mixed_network.plot()
    titles = [note.text for note in figure.layout.annotations]
    assert "this network" in titles[0] and "random neurons" in titles[1]
    drawn = {(trace.name, trace.xaxis): trace for trace in figure.data if trace.mode == "markers"}
    rule = (mixed_network.classes == GENERALIZING).numpy()
    trace = drawn["generalizing", "x"]
    assert trace.customdata.tolist() == np.flatnonzero(rule).tolist()
    gap = np.asarray(trace.y) - np.asarray(trace.x)
    assert np.abs(np.exp(1j * gap) - 1).max() < 1e-3, "aligned neurons lie on the diagonal"
    assert figure.layout.xaxis.title.text and figure.layout.yaxis.title.text
    histograms = mixed_network.plot_histograms()
    names = [trace.name for trace in histograms.data]
    assert names.count("generalizing") == names.count("memorizing") == names.count("random neurons") == 2
    assert sum(bool(trace.showlegend) for trace in histograms.data) == 3
    counted = mixed_network.plot_coverage().data[0]
    assert counted.y.tolist() == [40] * 6 and counted.x.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_result_survives_saving_with_its_figures(mixed_network, tmp_path):
    mixed_network.save(tmp_path / "r.safetensors")
    loaded = FourierClassificationResult.load(tmp_path / "r.safetensors")
    assert loaded.to_frame().equals(mixed_network.to_frame())
    assert isinstance(loaded.plot(), go.Figure) and loaded.null.common_rate == mixed_network.null.common_rate


def test_class_colours_are_those_of_the_palette():
    assert list(STYLES) == list(CLASSES)
    assert len({style.symbol for style in STYLES.values()}) == len(STYLES)
    palette = {style.color for style in SPLIT_STYLES.values()}
    assert all(style.color in palette for name, style in STYLES.items() if name != "dead")
