"""Planted subspaces are found, random networks have none, and twins stand beside or say why they do not."""

import dataclasses

import numpy as np
import pytest
import torch
from planted_subspaces import P, Twins, planted_subspaces, with_twins

import mechmem as mm
from mechmem.analyses.neurons.shared_structure import SharedStructure, SharedStructureResult
from mechmem.analyses.shared_neurons import DRAWN_NEURONS
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError, UnknownNameError

RANDOM = {"clusters": 0, "rest": 80}


@pytest.fixture(scope="module")
def planted():
    return planted_subspaces()


@pytest.fixture(scope="module")
def result(planted):
    subject, _ = planted
    noise, first = (planted_subspaces(**RANDOM, seed=seed)[0].model for seed in (1, 2))
    return SharedStructure()(with_twins(subject, noise_only=noise, untrained=first))


def alike(one, two):
    """Whether two clusterings put the same neurons together."""
    return torch.equal(one[:, None] == one, two[:, None] == two)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_clusters_and_their_dimensions_are_recovered(dimension):
    subject, labels = planted_subspaces(each=60, dimension=dimension)
    result = SharedStructure(clusters=4)(subject)
    assert alike(result.cluster, labels) and result.sizes.tolist() == [60] * 4
    energies = {role: values[:, :dimension].sum(1) for role, values in result.spectra.items()}
    assert list(energies) == ["u", "v", "w"]
    for role, energy in energies.items():
        assert energy.tolist() == pytest.approx([1] * 4)
        assert result.dimensions[role].tolist() == pytest.approx([dimension] * 4, rel=0.15)
        assert result.dimensions[role].max() < result.random_dimensions[role].min() / 3


def test_auto_finds_the_number_of_clusters_with_the_largest_excess(result):
    assert result.count == 4 and result.counts == (2, 3, 4, 6, 8, 12)
    table = result.cross_role()
    means = table.query("network == 'trained'").groupby("clusters")["excess"].mean()
    assert means.idxmax() == 4 and means[4] == pytest.approx(float(result.excess[0])) and means[4] > 0.4
    assert table.query("chosen")["network"].value_counts().to_dict() == {"trained": 3, "untrained": 3, "noise_only": 3}
    assert set(table.query("not chosen")["network"]) == {"trained"}
    assert np.allclose(table["excess"], table["observed"] - table["permuted"])


def test_neurons_that_share_nothing_are_told_from_those_that_do():
    subject, labels = planted_subspaces(each=20, rest=30)
    result = SharedStructure(clusters=6)(subject)
    shared, own = result.energy[0][labels >= 0], result.energy[0][labels < 0]
    assert shared.min() > own.max() and result.weight[labels >= 0].min() > result.weight[labels < 0].max()
    # A planted cluster may be split, but no two of them are put together.
    groups = [set(labels[result.cluster == each].tolist()) - {-1} for each in range(6)]
    assert max(map(len, groups)) == 1


def test_spectra_and_dimensions_are_those_of_the_weighted_moments():
    subject, _ = planted_subspaces(rest=30)
    result = SharedStructure(clusters=6)(subject)
    sizes = result.sizes.tolist()
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1] > 1
    embedding = subject.model.W_in.detach().double().reshape(2, P, -1)[0].numpy()
    units = embedding - embedding.mean(0)
    units /= np.linalg.norm(units, axis=0)
    for cluster in range(6):
        members, weight = (result.cluster == cluster).numpy(), result.weight.numpy()
        mean = np.cov(units[:, members], aweights=weight[members], ddof=0)
        mean += np.outer(*[np.average(units[:, members], 1, weight[members])] * 2)
        wanted = np.linalg.eigvalsh(mean)[::-1]
        assert np.allclose(result.spectra["u"][cluster], wanted, atol=1e-12)
        row = result.clusters().iloc[cluster]
        assert row["dimension_u"] == pytest.approx(1 / (mean**2).sum()) and row["neurons"] == members.sum()
        assert row["mean_shared_energy"] == pytest.approx(result.energy[0].numpy()[members].mean())


def test_random_vectors_have_the_random_dimension():
    result = SharedStructure(clusters=2)(planted_subspaces(clusters=0, rest=400)[0])
    one = dataclasses.replace(
        result, cluster=torch.zeros(400).long(), weight=torch.rand(400), spectra={"u": result.spectra["u"][:1]}
    )
    draw = np.random.default_rng(0)
    found = []
    for _ in range(20):
        units = draw.normal(size=(P, 400))
        units -= units.mean(0)
        units /= np.linalg.norm(units, axis=0)
        mean = (units * one.weight.numpy()) @ units.T / float(one.weight.sum())
        found.append(1 / (mean**2).sum())
    assert float(one.random_dimensions["u"][0]) == pytest.approx(np.mean(found), rel=0.01)


@pytest.mark.parametrize("moved", ["u", "v", "w"])
def test_symbols_of_each_operand_and_classes_have_no_meaning(moved, planted, result, draw):
    subject, _ = planted
    model, order = subject.copy_model(), torch.randperm(P, generator=draw)
    with torch.no_grad():
        if moved == "w":
            model.W_out.copy_(model.W_out[:, order])
        else:
            tables = model.W_in.reshape(2, P, -1)
            tables["uv".index(moved)] = tables["uv".index(moved)][order]
            model.W_in.copy_(tables.reshape(model.W_in.shape))
    again = SharedStructure()(subject.with_model(model))
    assert torch.equal(again.cluster, result.cluster)
    torch.testing.assert_close(again.energy[0], result.energy[0])
    torch.testing.assert_close(again.observed[0], result.observed[0])
    assert all(torch.allclose(again.spectra[role], result.spectra[role]) for role in "uvw")


@pytest.mark.parametrize("seed", range(3))
def test_a_random_network_has_no_excess(seed):
    result = SharedStructure(clusters=8)(planted_subspaces(clusters=0, rest=240, seed=seed)[0])
    assert abs(float(result.excess[0])) < 0.01


def test_the_excess_is_read_beside_the_noise_only_twin(planted, result):
    subject, _ = planted
    assert result.note == "no one-step twin: it was never trained"
    assert result.excess.isfinite().tolist() == [True, True, False, True]
    assert "Every fold is above all folds of the twins" in result.sentence and "4 clusters" in result.sentence
    other = planted_subspaces(**RANDOM)[0]
    turned = SharedStructure(clusters=4)(with_twins(other, noise_only=subject.model))
    assert turned.excess[3] == result.excess[0] and torch.equal(turned.energy[3], result.energy[0])
    assert "folds of the noise-only twin: this does not show" in turned.sentence
    before = SharedStructure(clusters=4)(with_twins(subject, untrained=subject.model, noise_only=other.model))
    assert "folds of the untrained twin: this does not show" in before.sentence, "what was there is not learned"


def test_missing_twins_give_their_reasons(planted):
    subject, _ = planted
    alone = SharedStructure(clusters=4)(subject)
    assert alone.note.count("no retrainer") == 2 and "neither a run with step 0 nor a retrainer" in alone.note
    assert "means nothing by itself" in alone.sentence
    assert alone.energy[1:].isnan().all() and set(alone.cross_role()["network"]) == {"trained"}
    assert len(alone.plot().data) == 1 and len(alone.plot_histogram().data) == 1


def test_twins_that_cannot_be_measured_give_their_reasons(planted):
    subject, _ = planted
    silent, lost, narrow = subject.copy_model(), subject.copy_model(), planted_subspaces(each=10)[0].model
    with torch.no_grad():
        silent.W_out.zero_()
        lost.W_in[0] = torch.nan
    found = SharedStructure(clusters=4)(with_twins(subject, untrained=silent, one_step=lost, noise_only=narrow))
    untrained, one_step, noise_only = found.note.split("; ")
    assert untrained.startswith("the untrained twin is not measured: ") and "80 are dead" in untrained
    assert one_step.startswith("the one-step twin is not measured: ") and "NaN" in one_step
    assert noise_only == "the noise-only twin is not measured: it has 40 neurons, and the network 80"
    assert found.excess[1:].isnan().all()


def test_dead_neurons_are_counted_and_in_no_cluster():
    subject, labels = planted_subspaces(dead=5)
    result = SharedStructure(clusters=4)(subject)
    assert result.dead == 5 and torch.equal(result.cluster == -1, labels == -2)
    assert not result.weight[labels == -2].any() and result.energy[0].isnan().sum() == 5
    assert alike(result.cluster[labels >= 0], labels[labels >= 0])
    assert result.clusters()["neurons"].sum() == 80 and result.clusters()["share"].sum() == pytest.approx(80 / 85)
    assert len(result.to_frame()) == 85 and next(iter(result.affinity.values())).shape == (80, 80)


def test_a_result_survives_saving(result, tmp_path):
    result.save(tmp_path / "r.safetensors")
    loaded = SharedStructureResult.load(tmp_path / "r.safetensors")
    for table in ("to_frame", "clusters", "cross_role"):
        assert getattr(loaded, table)().equals(getattr(result, table)())
    assert loaded.sentence == result.sentence and loaded.plot() == result.plot()
    names = ["neuron", "cluster", "weight", "shared_energy"]
    twins = ["untrained", "one_step", "noise_only"]
    assert list(result.to_frame()) == names + [f"shared_energy_{twin}" for twin in twins]


def test_figures_show_blocks_spectra_and_twins(result):
    network, twin = result.plot().data
    z = np.array(network.z)
    inside = result.cluster.sort().values.numpy()
    block = (inside[:, None] == inside) & ~np.eye(80, dtype=bool)
    assert z.max() <= 1 and np.median(z[block]) > 0.7 > 0.4 > np.median(z[inside[:, None] != inside])
    assert "noise-only twin" in result.plot().layout.annotations[1].text and np.array(twin.z).shape == (80, 80)
    spectra = result.plot_spectra()
    assert [note.text[0] for note in spectra.layout.annotations] == ["u", "v", "w"]
    assert all(np.array(panel.z).shape == (4, 2) for panel in spectra.data)
    histogram = result.plot_histogram()
    # The network is on top, and first in the legend.
    assert [trace.name for trace in histogram.data] == ["untrained twin", "noise-only twin", "this network"]
    assert [trace.fill for trace in histogram.data] == ["none", "none", "tozeroy"]


def test_a_wide_layer_is_drawn_as_a_sample():
    result = SharedStructure(clusters=4)(planted_subspaces(each=150)[0])
    assert result.affinity["trained"].shape == (DRAWN_NEURONS, DRAWN_NEURONS)
    assert f"drawn: {DRAWN_NEURONS} of them" in result.plot().layout.annotations[0].text


def test_twins_are_made_once_for_all_checkpoints(tiny_run):
    twins = Twins(noise_only=tiny_run.run.model_at(0))
    run = dataclasses.replace(tiny_run, retrainer=twins)
    measure = SharedStructure(clusters=2).for_run(run)
    assert not twins.asked, "a network is refused before a twin is trained"
    found = [measure(run.with_model(run.run.model_at(step))) for step in run.run.checkpoint_steps()]
    assert len(found) > 2 and twins.asked == 2, "one-step and noise-only"
    assert {float(each.excess[3]) for each in found} == {float(found[0].excess[0])}


def test_what_it_cannot_measure_is_refused(planted):
    subject, _ = planted
    lost = subject.copy_model()
    with torch.no_grad():
        lost.W_out[0] = torch.inf
    with pytest.raises(NotFiniteError, match="'w'"):
        SharedStructure()(subject.with_model(lost))
    with pytest.raises(MissingNeedError, match="21 clusters need at least 84 neurons"):
        SharedStructure(clusters=21)(subject)
    with pytest.raises(UnknownNameError):
        SharedStructure(point="hook_nowhere")(subject)
    with pytest.raises(ConfigError, match="auto"):
        mm.analyse(subject, "shared_structure", clusters="many")
    assert mm.analyse(subject, "shared_structure(clusters=4)").count == 4
