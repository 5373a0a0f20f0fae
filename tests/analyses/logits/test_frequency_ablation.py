"""Frequencies removed and kept, against the surgeries one by one, on planted networks."""

import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.frequency_ablation import FrequencyAblation
from mechmem.models.networks.mlp import HookedMLP
from mechmem.tasks.build import build_task


@pytest.fixture(scope="module")
def net():
    """A network on frequencies 2 and 5 of eleven symbols, as far as it can be: the others are faint."""
    planted = mm.planted_network(11, width=200)
    subject = planted.subject.with_model(planted.subject.copy_model())
    faint = (planted.frequency != 2) & (planted.frequency != 5)
    with torch.no_grad():
        subject.model.W_out[faint] *= 1e-3
        subject.model.W_in[:, faint] *= 1e-3
    return planted, subject


def test_every_row_equals_its_surgery(net):
    _, subject = net
    frame = FrequencyAblation()(subject).to_frame()
    test = subject.task.test_ids
    strongest = frame.query("mode == 'keep_strongest'").drop_duplicates("kept")["frequency"].tolist()
    for mode, place, name in [
        *(("remove", k, f"without_frequencies({k})") for k in range(1, 6)),
        *(("keep", k, f"only_frequencies({k})") for k in range(1, 6)),
        *(("keep_strongest", strongest[i], f"only_frequencies({tuple(strongest[: i + 1])})") for i in range(5)),
    ]:
        wanted = (mm.extractor(name)(subject)(test).argmax(1) == subject.task.true(test)).double().mean().item()
        row = frame.query("mode == @mode and frequency == @place and split == 'test'")
        assert row["accuracy"].item() == pytest.approx(wanted), (mode, place)


def test_the_strongest_two_carry_the_rule(net):
    planted, subject = net
    result = FrequencyAblation()(subject)
    assert set(result.strongest[:2].tolist()) == {2, 5} and float(result.share.sum()) == pytest.approx(1)
    assert result.neurons.tolist() == torch.bincount(planted.frequency)[1:].tolist()
    accuracy = (
        result.to_frame().query("split == 'test'").set_index(["mode", "kept", "frequency"])["accuracy"].sort_index()
    )
    whole = accuracy["keep_strongest", 5].item()
    assert accuracy["keep_strongest", 2].item() == whole == 1
    assert accuracy["remove", 4, 2] < 1 and accuracy["remove", 4, 1] == 1


def test_keeping_every_frequency_is_the_network_itself():
    planted = mm.planted_network(7, op="multiply", memorized_fraction=0.3, train_fraction=0.7)
    result = FrequencyAblation()(planted.subject)
    last = result.to_frame().query("mode == 'keep_strongest' and kept == 3").set_index("split")
    from mechmem.training.evaluate import evaluate

    raw = evaluate(planted.subject.model, planted.subject.task).row
    for split in ("train_clean", "train_noisy", "train_noisy_true", "test"):
        assert last.loc[split, "accuracy"] == raw[split]
        assert last.loc[split, "loss"] == pytest.approx(raw[f"{split}_loss"])
    assert last["n"].tolist() == [24, 10, 10, 15]


def test_the_figure_has_a_panel_per_mode(net):
    figure = FrequencyAblation()(net[1]).plot()
    assert len(figure.layout.annotations) == 3
    assert [figure.layout[axis].dtick for axis in ("xaxis", "xaxis2", "xaxis3")] == [1, 1, 1]
    assert {trace.mode for trace in figure.data} == {"lines+markers"}
    assert figure.layout.xaxis.title.text == "frequency k" and figure.layout.xaxis3.title.text == "number kept"


def test_a_neuron_without_energy_counts_at_no_frequency(net):
    planted, subject = net
    subject = subject.with_model(subject.copy_model())
    gone = planted.frequency == 3
    with torch.no_grad():
        subject.model.W_out[gone] = 0
        subject.model.W_in[:, gone] = 1
    counts = torch.bincount(planted.frequency)
    counts[3] = 0
    assert FrequencyAblation()(subject).neurons.tolist() == counts[1:].tolist()


def test_it_says_that_it_was_told_the_labels_it_measures_with():
    assert FrequencyAblation().told() >= {"given_labels", "true_train_labels", "noise_mask", "test_labels"}


def test_representations_are_named_and_not_joined():
    task = build_task(mm.GroupConfig("S3", train_fraction=0.7, noise=mm.LabelNoise(0.3)))
    model = HookedMLP(mm.MLPConfig(width=10), 6, seed=1)
    result = FrequencyAblation()(mm.Subject(model, task, model.roles))
    frame = result.to_frame()
    assert result.labels == task.group.labels
    assert frame["label"].tolist() == [task.group.labels[k - 1] for k in frame["frequency"]]
    figure = result.plot()
    modes = [{trace.mode for trace in figure.select_traces(row=1, col=column)} for column in (1, 2, 3)]
    assert modes == [{"markers"}, {"markers"}, {"lines+markers"}], "how many are kept has an order"
    assert figure.layout.xaxis.ticktext == task.group.labels and figure.layout.xaxis3.title.text == "number kept"
