"""The surgery that is told nothing: it recovers a planted rule from noise, and refuses what it cannot read."""

import dataclasses

import pytest
import torch

import mechmem as mm
from mechmem.errors import ConfigError, MissingNeedError, NotFiniteError
from mechmem.models.reading.shared_vectors import role_vectors, shared_vectors

P = 17


@pytest.fixture(scope="module")
def net():
    """A rule in 400 neurons, 50 for each of 8 frequencies, under noise in every weight of 1.5 times their size."""
    planted = mm.planted_network(P, width=400, seed=2)
    model, draw = planted.subject.copy_model(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for each in model.parameters():
            each += 1.5 * each.std() * torch.randn(each.shape, generator=draw)
    return dataclasses.replace(planted, subject=planted.subject.with_model(model))


def read(subject, name):
    ids = subject.task.test_ids
    return float((mm.extractor(name)(subject)(ids).argmax(1) == subject.task.true(ids)).double().mean())


def test_it_recovers_the_rule_and_its_control_does_not(net):
    assert mm.extractor("shared_subspaces(strength=3)").control().name == "shuffled_subspaces(strength=3)"
    assert read(net.subject, "raw") < 0.35
    assert read(net.subject, "shared_subspaces(clusters=8)") > 0.9
    assert read(net.subject, "shuffled_subspaces(clusters=8)") < 0.35


def test_the_clusters_are_the_frequencies(net):
    found = shared_vectors(net.subject)
    weight, own, frequency = found.clusters.weight, found.clusters.cluster, net.frequency
    assert len(found.clusters.moments[0]) == 8
    assert {int(torch.bincount(frequency[own == each]).argmax()) for each in range(8)} == set(range(1, 9))
    for each in range(8):
        inside = torch.bincount(frequency[own == each], weights=weight[own == each])
        assert float(inside.max() / inside.sum()) > 0.8


def test_it_is_the_same_every_time(net):
    fresh = mm.Subject(net.subject.copy_model(), net.subject.task, net.subject.roles)
    extract = mm.extractor("shared_subspaces(clusters=8)")
    assert torch.equal(extract(net.subject)(net.subject.task.ids), extract(fresh)(net.subject.task.ids))


def test_the_network_itself_is_unchanged(net):
    before = {name: value.clone() for name, value in net.subject.model.state_dict().items()}
    mm.extractor("shared_subspaces(clusters=8)")(net.subject)
    assert all(torch.equal(before[name], value) for name, value in net.subject.model.state_dict().items())


def test_operands_that_share_a_table_have_one_vector():
    config = mm.TrainConfig(mm.ModularConfig(p=7), mm.MLPConfig(width=40, tied=True), steps=20, evaluations=1)
    tied = mm.train(config, progress=False)
    assert list(role_vectors(tied).vectors) == ["u", "w"]
    changed = mm.extractor("shared_subspaces(clusters=3)").surgeries[0](tied)
    tables = changed.roles.input_embedding.read(changed.model)
    assert torch.equal(tables[0], tables[1])
    torch.testing.assert_close(tables[0].double(), shared_vectors(tied, 3).parts["u"], atol=1e-6, rtol=0)


def test_an_image_network_has_pixels_and_classes():
    config = mm.TrainConfig(
        mm.ImageConfig("digits", train=100, test=50), mm.ImageMLPConfig((96,), biases=False), steps=5, evaluations=1
    )
    images = mm.train(config, progress=False)
    if images.roles.input_embedding is None:
        with pytest.raises(MissingNeedError, match="input_embedding"):
            mm.extractor("shared_subspaces")(images)
    else:
        assert list(role_vectors(images).vectors) == ["u", "w"]


def test_a_readout_bias_is_dropped():
    config = mm.TrainConfig(mm.ModularConfig(p=7), mm.MLPConfig(width=40, bias=True), steps=30, evaluations=1)
    biased = mm.train(config, progress=False)
    changed = mm.extractor("shared_subspaces(clusters=3)").surgeries[0](biased)
    assert biased.model.b_out.abs().sum() > 0 and (changed.model.b_out == 0).all()


def test_dead_neurons_are_kept_out_and_counted(net):
    model = net.subject.copy_model()
    with torch.no_grad():
        model.W_out[:3] = 0.25
    subject = net.subject.with_model(model)
    found = shared_vectors(subject, clusters=8)
    assert (~found.live).nonzero()[:, 0].tolist() == [0, 1, 2]
    changed = mm.extractor("shared_subspaces(clusters=8)").surgeries[0](subject)
    assert (changed.model.W_out[:3] == 0).all() and (changed.model.W_in[:, :3] == 0).all()


def test_means_on_the_grid_stand_in_for_input_vectors():
    config = mm.TrainConfig(mm.ModularConfig(p=5), mm.TransformerConfig(d_model=16, heads=2), steps=5, evaluations=1)
    run = mm.train(config, progress=False)
    found = role_vectors(run)
    assert list(found.vectors) == ["rows", "columns", "w"]
    held = mm.activations(run, found.point, ids=run.task.ids)[found.point]
    held = held if held.ndim == 2 else held[:, -1]
    a, b = run.task.operands.T
    for name, symbols in (("rows", a), ("columns", b)):
        wanted = torch.stack([held[symbols == each].double().mean(0) for each in range(5)])
        torch.testing.assert_close(found.vectors[name].double(), wanted, atol=1e-6, rtol=0)
    with pytest.raises(MissingNeedError, match="residual stream"):
        mm.extractor("shared_subspaces")(run)


def refusals():
    small = mm.train(
        mm.TrainConfig(mm.ModularConfig(p=13), mm.MLPConfig(width=12), steps=2, evaluations=1), progress=False
    )
    wide = mm.planted_network(7, width=60).subject
    broken, dead = wide.copy_model(), wide.copy_model()
    with torch.no_grad():
        broken.W_in[0, 0] = torch.nan
        dead.W_out[4:] = 0
    deep = mm.train(
        mm.TrainConfig(mm.ModularConfig(p=5), mm.MLPConfig(width=20, layers=2), steps=2, evaluations=1), progress=False
    )
    readout_only = dataclasses.replace(wide, roles=dataclasses.replace(wide.roles, input_embedding=None))
    return [
        (small, "auto", MissingNeedError, "at least 13 neurons with vectors, and here there are 12"),
        (wide, 40, MissingNeedError, "of 40 clusters need at least 160 neurons"),
        (wide.with_model(broken), "auto", NotFiniteError, "'u' of the neurons"),
        (wide.with_model(dead), "auto", MissingNeedError, r"here there are 4 \(56 are dead\)"),
        (deep, "auto", MissingNeedError, "one layer of neurons"),
        (readout_only, "auto", MissingNeedError, "role:input_embedding"),
    ]


def test_what_cannot_be_read_is_refused_in_one_line():
    for subject, clusters, error, said in refusals():
        with pytest.raises(error, match=said) as caught:
            mm.extractor(f"shared_subspaces(clusters={clusters})")(subject)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings", ["clusters=1", "clusters=x", "clusters=2.5", "strength=0", "strength=-1", "seed=-1"]
)
def test_settings_without_a_meaning_are_refused(settings):
    for name in ("shared_subspaces", "shuffled_subspaces"):
        with pytest.raises(ConfigError, match=settings.split("=")[0]):
            mm.extractor(f"{name}({settings})")
