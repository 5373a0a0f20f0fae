"""Reconstructions against projections on explicit cosines and sines, in numpy."""

import math

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.analyses.logits.frequency_reconstruction import FrequencyReconstruction, FrequencyReconstructionResult
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError
from mechmem.math.reconstruction import key_frequencies, mode_counts
from mechmem.scorecard.controls import LogitTable

TASKS = [("add", 7), ("add", 8), ("subtract", 9), ("subtract", 6), ("multiply", 7)]


def task_of(op, p, noise=0.3):
    return mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.7, noise=mm.LabelNoise(noise)))


def subject_of(task, logits):
    return Subject(LogitTable(logits, task), task)


def with_frequencies(task, freqs, noise=0.05, seed=0):
    """Logits Σ_k cos 2πk(a ∘ b − c)/n on the grid of the group, and noise everywhere."""
    p, n, log = task.n_classes, len(task.group.elements), task.group.logarithm
    a, b = log[task.operands].unbind(1)
    angle = 2 * math.pi * ((a - b if task.operation == "subtract" else a + b)[:, None] - log[None]) / n
    rule = sum(torch.cos(k * angle.double()) for k in freqs)
    draw = torch.Generator().manual_seed(seed)
    return rule + noise * torch.randn(p * p, p, generator=draw, dtype=torch.float64)


def projected(task, logits, freqs):
    """The part of the logits on (cc − ss)/√2 and (sc + cs)/√2 of each frequency, per class; and the constant."""
    elements, n, p = task.group.elements.numpy(), len(task.group.elements), task.n_classes
    grid = logits.numpy().reshape(p, p, p)[np.ix_(elements, elements)]
    x = 2 * np.pi * np.arange(n) / n
    part = np.zeros_like(grid)
    sign = -1 if task.operation == "subtract" else 1
    for k in freqs:
        ca, sa, cb, sb = np.cos(k * x), np.sin(k * x), np.cos(k * x), sign * np.sin(k * x)
        for direction in (np.outer(ca, cb) - np.outer(sa, sb), np.outer(sa, cb) + np.outer(ca, sb)):
            norm = np.square(direction).sum()
            if norm > 1e-9:
                part += direction[..., None] * np.einsum("ab,abc->c", direction, grid) / norm
    return grid, part, grid.mean((0, 1))


def cells(task, split):
    ids = task.splits[split.removesuffix("_true")]
    ids = ids[~torch.isin(task.operands[ids], task.group.outside).any(1)]
    place = task.group.logarithm[task.operands[ids]].numpy()
    return (place[:, 0], place[:, 1]), (task.given if split == "train_noisy" else task.true)(ids).numpy()


def cross_entropy(scores, labels):
    top = scores.max(1, keepdims=True)
    return np.mean(np.log(np.exp(scores - top).sum(1)) + top[:, 0] - scores[np.arange(len(labels)), labels])


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_restricted_and_excluded_are_projections(op, p):
    task = task_of(op, p)
    top = len(task.group.elements) // 2
    logits = with_frequencies(task, [1, top])
    result = FrequencyReconstruction()(subject_of(task, logits))
    assert result.key.tolist() == [1, top], "the top frequency is one of them"
    grid, part, constant = projected(task, logits, [1, top])
    for split in ("train_clean", "train_noisy", "train_noisy_true", "test"):
        place, labels = cells(task, split)
        for family, scores in (("network", grid), ("restricted", constant + part), ("excluded", grid - part)):
            assert result.losses(family)[split].value == pytest.approx(cross_entropy(scores[place], labels))
            found = next(e for e in result.rebuilt if (e.family, e.split) == (family, split))
            assert found.accuracy.value == pytest.approx(np.mean(scores[place].argmax(1) == labels))
            assert found.accuracy.n == len(labels)


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_each_number_of_modes_is_the_projection_on_the_strongest(op, p):
    task = task_of(op, p)
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(p * p, p, generator=draw, dtype=torch.float64) + with_frequencies(task, [1, 2])
    result = FrequencyReconstruction()(subject_of(task, logits))
    place, labels = cells(task, "test")
    order = (result.energy.argsort(descending=True) + 1).tolist()
    frame = result.to_frame()
    diagonal = frame[(frame["family"] == "diagonal") & (frame["split"] == "test")]
    assert diagonal["modes"].tolist() == list(range(len(order) + 1))
    for row in diagonal.itertuples():
        _, part, constant = projected(task, logits, order[: row.modes])
        scores = (constant + part)[place]
        assert row.loss == pytest.approx(cross_entropy(scores, labels))
        if row.modes:
            assert row.accuracy == pytest.approx(np.mean(scores.argmax(1) == labels))


@pytest.mark.parametrize(("op", "p"), TASKS)
def test_energy_ranked_is_numpys_spectrum_cut_to_its_strongest_modes(op, p):
    task = task_of(op, p)
    logits = torch.randn(p * p, p, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    result = FrequencyReconstruction()(subject_of(task, logits))
    grid, _, constant = projected(task, logits, [])
    n = len(grid)
    centred = np.fft.fft2(grid - grid.mean(-1, keepdims=True), axes=(0, 1))
    pairs = {frozenset([(a, b), ((n - a) % n, (n - b) % n)]) for a in range(1, n) for b in range(1, n)}
    strength = {pair: sum((np.abs(centred[mode]) ** 2).sum() for mode in pair) for pair in pairs}
    order = sorted(pairs, key=strength.__getitem__, reverse=True)
    place, labels = cells(task, "train_noisy")
    frame = result.to_frame()
    for row in frame[(frame["family"] == "energy_ranked") & (frame["split"] == "train_noisy")].itertuples():
        keep = np.zeros((n, n, 1))
        for mode in [(0, 0), *(mode for pair in order[: row.modes] for mode in pair)]:
            keep[mode] = 1
        scores = np.fft.ifft2(np.fft.fft2(grid, axes=(0, 1)) * keep, axes=(0, 1)).real[place]
        assert row.loss == pytest.approx(cross_entropy(scores, labels)), row.modes


def test_all_modes_of_a_family_are_the_readouts_accuracies(planted):
    task = planted.subject.task
    frame = FrequencyReconstruction()(planted.subject).to_frame()
    for family in ("diagonal", "energy_ranked"):
        rows = frame[(frame["family"] == family) & (frame["split"] == "test")]
        answer = mm.extractor(family)(planted.subject)(task.test_ids).argmax(1)
        assert rows["accuracy"].iloc[-1] == pytest.approx(float((answer == task.true(task.test_ids)).double().mean()))


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
def test_a_planted_rule_is_found_and_its_memories_are_what_is_excluded(op):
    result = FrequencyReconstruction()(mm.planted_network(31, op=op, memorized_fraction=0.2).subject)
    assert len(result.key) == len(result.energy)
    accuracy = {(e.family, e.split): e.accuracy.value for e in result.rebuilt if e.family != "diagonal"}
    assert accuracy["restricted", "test"] == accuracy["restricted", "train_noisy_true"] == 1
    assert accuracy["restricted", "train_noisy"] == 0 and accuracy["excluded", "train_noisy"] > 0.9
    assert result.losses("excluded")["train_clean"].value > result.losses("network")["train_clean"].value


def test_noise_has_no_key_frequency_and_a_constant_reconstruction():
    task = task_of("add", 11)
    logits = torch.randn(121, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = FrequencyReconstruction()(subject_of(task, logits))
    assert not len(result.key)
    assert result.losses("excluded")["test"].value == pytest.approx(result.losses("network")["test"].value)


def test_detection_reads_no_label():
    task, relabelled = task_of("add", 11, 0.0), task_of("add", 11, 0.6)
    logits = with_frequencies(task, [2, 5])
    one, two = (FrequencyReconstruction()(subject_of(each, logits)) for each in (task, relabelled))
    assert torch.equal(one.key, two.key) and torch.equal(one.energy, two.energy)


def test_the_threshold_is_a_multiple_of_the_median_off_the_diagonal_and_half_at_nyquist():
    energy = torch.ones(6, 4, dtype=torch.float64)
    for k, value in ((1, 12.0), (2, 9.0), (3, 6.0)):
        energy[k, k] = value
    found = key_frequencies(energy, 1, 10.0)
    assert (found.background, found.threshold) == (1.0, 10.0)
    # Off the diagonal, a pair in the Nyquist column counts as one: its energy of 2 does not move the median.
    assert found.key.tolist() == [1, 3]


def test_counts_are_every_mode_at_first_and_reach_the_last():
    assert mode_counts(5) == [0, 1, 2, 3, 4, 5]
    counts = mode_counts(254)
    assert counts[-1] == 254 and counts == sorted(set(counts)) and len(counts) < 30


def test_the_figure_names_its_axes(planted, tmp_path):
    result = FrequencyReconstruction()(planted.subject)
    figure = result.plot()
    assert figure.layout.yaxis.title.text == "accuracy" and "nats" in figure.layout.yaxis3.title.text
    assert figure.layout.xaxis.title.text == figure.layout.xaxis2.title.text == "modes kept"
    result.save(tmp_path / "r.safetensors")
    assert FrequencyReconstructionResult.load(tmp_path / "r.safetensors").rebuilt == result.rebuilt
    with pytest.raises(ConfigError, match="greater than 0"):
        FrequencyReconstruction(multiple=0)
