"""Losses against projections on explicit cosines and sines in numpy; and whose key frequencies are used."""

import dataclasses

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.embedding_spectrum import EmbeddingSpectrum
from mechmem.analyses.logits.frequency_reconstruction import FrequencyReconstruction
from mechmem.analyses.logits.progress_measures import ProgressMeasures, ProgressMeasuresResult
from mechmem.errors import ConfigError, MissingNeedError
from mechmem.math.reconstruction import key_frequencies
from mechmem.models.reading.forward import all_logits

OPERATIONS = [("add", 9), ("add", 8), ("subtract", 7), ("multiply", 11)]


@pytest.fixture(scope="module", params=OPERATIONS)
def subject(request):
    """A planted network with memorized cells and noise in its weights, so that every number differs."""
    op, p = request.param
    planted = mm.planted_network(p, op=op, memorized_fraction=0.2, train_fraction=0.7, dtype=torch.float64).subject
    model = planted.copy_model()
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
    return planted.with_model(model)


def projected(task, logits, freqs):
    """Logits on the grid, their part on cos and sin of ω_k(a ± b), and their constant, by class."""
    elements, p = task.group.elements.numpy(), task.n_classes
    n, sign = len(elements), -1 if task.operation == "subtract" else 1
    grid = logits.double().numpy().reshape(p, p, p)[np.ix_(elements, elements)]
    answer = (np.arange(n)[:, None] + sign * np.arange(n)) % n
    part = np.zeros_like(grid)
    for k in freqs:
        for wave in (np.cos, np.sin):
            direction = wave(2 * np.pi * k * answer / n)
            norm = np.square(direction).sum()
            if norm > 1e-9:
                part += direction[..., None] * np.einsum("ab,abc->c", direction, grid) / norm
    return grid, part, grid.mean((0, 1))


def cross_entropy(scores, labels):
    top = scores.max(1, keepdims=True)
    return np.mean(np.log(np.exp(scores - top).sum(1)) + top[:, 0] - scores[np.arange(len(labels)), labels])


def test_losses_are_those_of_explicit_projections(subject):
    task, top = subject.task, len(subject.task.group.elements) // 2
    result = ProgressMeasures(frequencies=(1, top))(subject)
    assert result.key.tolist() == [1, top] and result.key_source == "given"
    grid, part, constant = projected(task, all_logits(subject), [1, top])
    names = [each.split for each in result.splits]
    assert names == ["train", "train_clean", "train_noisy", "train_noisy_true", "test"]
    for each in result.splits:
        if each.split == "train":
            ids, labels = task.train_ids, task.given(task.train_ids)
        else:
            ids = task.splits[each.split.removesuffix("_true")]
            labels = (task.given if each.split == "train_noisy" else task.true)(ids)
        inside = ~torch.isin(task.operands[ids], task.group.outside).any(1)
        a, b = task.group.logarithm[task.operands[ids[inside]]].T.numpy()
        labels = labels[inside].numpy()
        for family, scores in (("network", grid), ("restricted", part + constant), ("excluded", grid - part)):
            assert each.loss[family].value == pytest.approx(cross_entropy(scores[a, b], labels))
            assert each.accuracy[family].value == pytest.approx(np.mean(scores[a, b].argmax(1) == labels))
            assert each.loss[family].n == len(labels)
    assert result.n_outside == (2 * task.symbols - 1 if task.operation == "multiply" else 0)


def test_frequency_reconstruction_gives_the_same_losses(subject):
    other, result = FrequencyReconstruction(relative=0.25)(subject), ProgressMeasures()(subject)
    assert torch.equal(result.key, other.key)
    for family in ("network", "restricted", "excluded"):
        for split, loss in other.losses(family).items():
            assert result.split(split).loss[family].value == pytest.approx(loss.value)


def test_gini_and_weights(subject):
    result = ProgressMeasures()(subject)
    spectra = EmbeddingSpectrum()(subject)
    assert result.gini == {each.name: each.gini for each in spectra.matrices}
    expected = sum(float(p.detach().square().sum()) for p in subject.model.parameters())
    assert result.squared_weights == pytest.approx(expected)
    frame = result.to_frame().set_index("split")
    assert frame.loc["network", "squared_weights"] == result.squared_weights
    assert frame.loc["network", ["loss", "accuracy"]].isna().all() and frame.loc["test", "gini_readout":].isna().all()


def test_weak_frequencies_are_no_keys():
    energy = torch.zeros(9, 5, dtype=torch.float64)
    energy[1, 1], energy[2, 2], energy[3, 3], energy[7, 2] = 16.0, 1.0, 0.99, 50.0
    assert key_frequencies(energy, 1, 10.0, 0.25).key.tolist() == [1, 2]
    assert key_frequencies(energy, -1, 10.0, 0.25).key.tolist() == [2], "mode (−2, 2)"
    assert key_frequencies(energy, 1, 10.0).key.tolist() == [1, 2, 3]
    assert not len(key_frequencies(torch.zeros(9, 5), 1, 10.0, 0.25).key)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that has learned the rule at its end, and not at its first checkpoints."""
    config = mm.TrainConfig(
        task=mm.ModularConfig(p=11, train_fraction=0.8),
        model=mm.MLPConfig(width=48, activation="quadratic"),
        loss="mse",
        lr=0.02,
        weight_decay=1.0,
        steps=400,
        evaluations=5,
        checkpoints=5,
    )
    return mm.train(config, out=tmp_path_factory.mktemp("runs") / "run", progress=False)


@pytest.mark.slow
def test_an_earlier_state_is_measured_with_the_last_ones_frequencies(run):
    final = ProgressMeasures()(run)
    assert len(final.key) and final.key_source == "the run's last checkpoint (step 400)"
    own = ProgressMeasures()(dataclasses.replace(run, run=None))
    assert own.key_source == "this network" and torch.equal(own.key, final.key)
    young = run.with_model(run.run.model_at(0))
    assert torch.equal(ProgressMeasures()(young).key, final.key)
    alone = ProgressMeasures()(dataclasses.replace(young, run=None))
    assert not torch.equal(alone.key, final.key), "by itself it has others, or none"
    given = ProgressMeasures(frequencies=tuple(final.key.tolist()))
    curves = mm.over_training(run, ["progress_measures", given], steps=[0, 400])
    one, two = (curves.frame(name).drop(columns="reason", errors="ignore") for name in curves.measured)
    assert one.equals(two) and sorted(set(one["step"])) == [0, 400]
    first, last = (one.loc[(one["step"] == step) & (one["split"] == "test")].iloc[0] for step in (0, 400))
    assert last["restricted_loss"] < 0.9 * first["restricted_loss"]
    assert {"train", "test", "network"} == set(one["split"])
    assert curves.plot("progress_measures").data


def test_without_noise_the_training_set_is_one_split(run):
    assert [each.split for each in ProgressMeasures()(run).splits] == ["train", "test"]


def test_the_figure_and_the_tables(subject, tmp_path):
    result = ProgressMeasures()(subject)
    table = result.intervals()
    assert len(table) == 5 * 2 * 3 and ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    figure = result.plot()
    assert figure.layout.yaxis.type == "log" and "nats" in figure.layout.yaxis.title.text
    assert "frequenc" in figure.layout.xaxis.ticktext[1]
    result.save(tmp_path / "r.safetensors")
    assert ProgressMeasuresResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())


def test_what_is_not_there_is_refused(subject):
    with pytest.raises(ConfigError, match="frequencies lie in 1 … "):
        ProgressMeasures(frequencies=99)(subject)
    with pytest.raises(ConfigError, match="must lie in"):
        ProgressMeasures(relative=2)
    with pytest.raises(MissingNeedError, match="needs group"):
        ProgressMeasures()(dataclasses.replace(subject, task=_without_group(subject.task)))


def _without_group(task):
    train = torch.isin(task.ids, task.train_ids)
    arrays = (task.operands, task.given(task.ids), task.true(task.ids), train)
    return mm.ArrayTask(*arrays, operands=task.operands, n_classes=task.n_classes)
