import math

import numpy as np
import pytest
import torch
from small_transformer import small_transformer

import mechmem as mm
from mechmem.analyses.logits.embedding_spectrum import EmbeddingSpectrum, EmbeddingSpectrumResult
from mechmem.core.subject import Subject
from mechmem.errors import ConfigError, MissingNeedError, ScoreError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.models.reading.weights import symbol_matrices
from mechmem.tasks.config import GroupConfig


def waves(task, frequencies, columns, seed=0):
    """A matrix over the symbols whose columns are made of these frequencies, and of a constant."""
    n, place = len(task.group.elements), task.group.logarithm.numpy()
    draw, x = np.random.default_rng(seed), 2 * np.pi * place / n
    basis = [np.ones(len(x)), *(wave(k * x) for k in frequencies for wave in (np.cos, np.sin))]
    table = np.stack(basis, 1) @ draw.normal(size=(len(basis), columns))
    return torch.from_numpy(np.where(place[:, None] >= 0, table, 99))


def network(op="add", p=13, width=40, embedding=(3, 5), readout=(1, 5), seed=0):
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p))
    model = HookedMLP(mm.MLPConfig(width=width), p, seed).double()
    with torch.no_grad():
        if embedding:
            model.W_in[:p], model.W_in[p:] = waves(task, embedding, width), waves(task, embedding, width, 1)
        if readout:
            model.W_out.copy_(waves(task, readout, width, 2).T)
    return Subject(model, task, model.roles)


@pytest.mark.parametrize(("op", "p"), [("add", 13), ("subtract", 12), ("multiply", 13)])
def test_an_embedding_of_two_frequencies_has_these_as_keys(op, p):
    top = 6
    result = EmbeddingSpectrum()(network(op, p, embedding=(3, 5), readout=(1, top)))
    assert [each.name for each in result.matrices] == ["embedding_a", "embedding_b", "readout"]
    for name in ("embedding_a", "embedding_b"):
        found = result.matrix(name)
        assert found.key.tolist() == [3, 5]
        assert found.energy[[0, 1, 3, 5]].tolist() == pytest.approx([0] * 4, abs=1e-15)
        assert found.constant > 1
    assert result.matrix("readout").key.tolist() == [1, top], "the top frequency, Nyquist among them, is one"
    summary = result.summary()
    assert summary["key_share"].tolist() == pytest.approx([1, 1, 1]) and summary["keys"][0] == "3, 5"
    # Two of six frequencies hold all, nearly alike.
    assert (summary["gini"] > 0.6).all() and (summary["random_high"] < 0.2).all()


@pytest.mark.parametrize(("op", "p"), [("add", 13), ("add", 12), ("multiply", 11)])
def test_norms_are_those_of_projections_written_out(op, p):
    subject = network(op, p, embedding=(), readout=())
    task, found = subject.task, EmbeddingSpectrum()(subject).matrix("readout")
    elements = task.group.elements.numpy()
    n, table = len(elements), subject.model.W_out.detach().numpy().T[elements]
    x, norms = 2 * np.pi * np.arange(n) / n, []
    for k in range(1, n // 2 + 1):
        pair = []
        for wave in (np.cos(k * x), np.sin(k * x)):
            length = np.linalg.norm(wave)
            pair.append(0.0 if length < 1e-9 else np.linalg.norm(wave @ table) / length)
        np.testing.assert_allclose(found.waves[k - 1].sqrt(), pair, atol=1e-12)
        assert float(found.energy[k - 1]) == pytest.approx(np.square(pair).sum())
        norms += [norm for norm in pair if norm]
    norms = np.array(norms)
    by_pairs = np.abs(norms[:, None] - norms).sum() / (2 * len(norms) ** 2 * norms.mean())
    assert len(norms) == n - 1 and found.gini == pytest.approx(by_pairs)
    assert found.constant == pytest.approx(np.square(table.sum(0)).sum() / n)


def test_random_matrices_seldom_have_a_key_frequency():
    keys = [
        len(each.key)
        for seed in range(60)
        for each in EmbeddingSpectrum(false_positive_rate=0.05)(network(embedding=(), readout=(), seed=seed)).matrices
    ]
    # 180 matrices at 5 %: 9 expected.
    assert 2 <= np.count_nonzero(keys) <= 18


def test_a_transformer_is_read_without_its_other_token_and_through_to_the_logits():
    subject = small_transformer(p=11, layer_norm=True)
    task, model = subject.task, subject.model
    with torch.no_grad():
        model.embed.W_E[:11] = waves(task, (2, 4), 12)
        model.embed.W_E[11] = 1e3
    result = EmbeddingSpectrum()(subject)
    assert [each.name for each in result.matrices] == ["embedding", "readout", "neuron_logits"]
    assert result.matrix("embedding").key.tolist() == [2, 4]
    written = model.blocks[0].mlp.W_out.detach()
    # LayerNorm takes out each row's mean over the stream.
    block = (written - written.mean(1, keepdim=True)) * model.ln_final.w.detach()
    expected = task.group.power((block @ model.unembed.W_U.detach()).T).sum(1)
    torch.testing.assert_close(result.matrix("neuron_logits").energy, expected)
    # Through 12 dimensions of the stream, 20 neurons have fewer independent columns.
    assert symbol_matrices(subject)[-1].width == pytest.approx(12 * 20 / 33)
    assert result.matrix("neuron_logits").threshold > result.matrix("readout").threshold


def test_another_group_has_representations_in_the_place_of_waves():
    config = mm.TrainConfig(task=GroupConfig(group="S4"), model=mm.MLPConfig(width=30), steps=1, evaluations=1)
    subject = mm.train(config, progress=False)
    group, model = subject.task.group, subject.copy_model().double()
    with torch.no_grad():
        random = torch.randn(24, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        model.W_in[:24] = group.keep(random, torch.full((30,), 2)) + 1
    result = EmbeddingSpectrum()(subject.with_model(model))
    found = result.matrix("embedding_a")
    assert found.waves is None and found.key.tolist() == [2]
    assert result.to_frame()["cosine_norm"].isna().all() and result.labels == group.labels
    # All in one frequency of n.
    assert found.gini == pytest.approx(1 - 1 / group.n_frequencies)
    assert result.plot().layout.xaxis.ticktext == group.labels


def test_tied_operands_have_one_embedding():
    task = mm.ModularTask(mm.ModularConfig(p=7))
    model = HookedMLP(mm.MLPConfig(width=9, tied=True), 7)
    assert [each.name for each in symbol_matrices(Subject(model, task, model.roles))] == ["embedding", "readout"]


def test_the_figure_shows_waves_levels_and_keys(tmp_path):
    result = EmbeddingSpectrum()(network())
    figure = result.plot()
    assert {trace.name for trace in figure.data} == {"cosine", "sine", "key above this", "mean"}
    assert "2 key: 3, 5" in figure.layout.annotations[0].text and "random" in figure.layout.annotations[0].text
    level = next(trace for trace in figure.data if trace.name == "mean")
    found = result.matrix("embedding_a")
    assert level.y[0] == pytest.approx(math.sqrt(float(found.energy.sum()) / 12))
    result.save(tmp_path / "r.safetensors")
    assert EmbeddingSpectrumResult.load(tmp_path / "r.safetensors").to_frame().equals(result.to_frame())


def test_what_has_no_spectrum_is_refused():
    broken = network()
    with torch.no_grad():
        broken.model.W_in[0, 0] = torch.nan
    with pytest.raises(ScoreError, match="embedding_a has no spectrum"):
        EmbeddingSpectrum()(broken)
    with pytest.raises(MissingNeedError, match="at least two frequencies"):
        EmbeddingSpectrum()(network(p=3, embedding=(), readout=()))
    with pytest.raises(ConfigError):
        EmbeddingSpectrum(false_positive_rate=1.5)
