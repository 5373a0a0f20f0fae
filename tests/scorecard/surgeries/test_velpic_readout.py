"""Class vectors in the place of the readout: the answers of the probe, by the network's own forward pass."""

import dataclasses

import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError, NotLinearError, UnknownNameError
from mechmem.models.networks.build import build_model
from mechmem.scorecard.surgeries.velpic_readout import VelpicReadout

NAME = "velpic_readout"
LABELS = ("given", "true")


def images(model, noise=0.3):
    """A network for images in float64, whose rounding does not decide between two classes."""
    task = mm.ImageTask(mm.ImageConfig(train=120, test=60, noise=mm.LabelNoise(noise)))
    network, (inputs, given) = build_model(model, task, 0).double(), task.batch(task.ids)
    arrays = mm.ArrayTask(inputs.double(), given, task.true(task.ids), torch.isin(task.ids, task.train_ids))
    return mm.Subject(network, arrays, network.roles)


def answers(name, subject, ids):
    return mm.extractor(name)(subject)(ids).argmax(1)


NETWORKS = {
    "planted": None,
    "mlp with a bias": mm.ImageMLPConfig((16, 12)),
    "mlp with a projector": mm.ImageMLPConfig((16,), projector=11),
    "cnn": mm.CNNConfig((4, 8)),
    "cnn with a projector": mm.CNNConfig((4, 8), projector=12, batch_norm=True),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_the_probe_at_the_last_layer(name, labels, planted):
    subject = planted.subject if NETWORKS[name] is None else images(NETWORKS[name])
    last = subject.roles.hidden[-1]
    for ids in (subject.task.train_ids, subject.task.test_ids):
        found = answers(f"velpic_readout(labels={labels})", subject, ids)
        assert torch.equal(found, answers(f"velpic(labels={labels})@{last}", subject, ids))
        assert len(found.unique()) > 1
    raw = answers("raw", subject, subject.task.test_ids)
    assert not torch.equal(answers("velpic_readout", subject, subject.task.test_ids), raw)


@pytest.mark.parametrize("name", ["mlp with a bias", "mlp with a projector"])
def test_the_weights_are_unit_vectors_of_each_class_and_the_bias_is_0(name):
    subject = images(NETWORKS[name])
    before = {key: tensor.clone() for key, tensor in subject.model.state_dict().items()}
    changed = VelpicReadout()(subject)
    hidden = mm.activations(subject, subject.roles.hidden[-1], ids=subject.task.train_ids)[subject.roles.hidden[-1]]
    weights, given = subject.roles.readout.read(changed.model), subject.task.given(subject.task.train_ids)
    for each in range(10):
        own = hidden[given == each].numpy()
        wanted = np.linalg.svd(own)[2][0]
        assert abs(wanted @ weights[:, each].numpy()) == pytest.approx(1, rel=1e-9)
        assert float((hidden @ weights[:, each]).mean()) >= 0
    assert subject.roles.bias is None or not subject.roles.bias.read(changed.model).any()
    kept = {key for key in before if not key.startswith("readout")}
    assert kept and all(torch.equal(changed.model.state_dict()[key], before[key]) for key in kept)
    assert all(torch.equal(tensor, before[key]) for key, tensor in subject.model.state_dict().items())


def test_it_reads_out_what_a_broken_readout_hides():
    """Random weights make nothing of the planted rule's neurons; their class vectors know it again."""
    subject = mm.planted_network(7, train_fraction=0.7, dtype=torch.float64).subject
    model, ids = subject.copy_model(), subject.task.test_ids
    with torch.no_grad():
        model.W_out.copy_(torch.randn(model.W_out.shape, generator=torch.Generator().manual_seed(2)))
    right = [(answers(each, subject.with_model(model), ids) == subject.task.true(ids)).sum() for each in ("raw", NAME)]
    assert int(right[0]) == 0 and int(right[1]) == len(ids)


def test_what_it_is_told_and_called():
    assert mm.extractor(NAME).knows == {"given_labels"}
    assert mm.extractor(f"{NAME}(labels=true)").knows == {"true_train_labels"}
    assert mm.extractor(f"{NAME}(true)").name == f"{NAME}(labels=true)"
    with pytest.raises(UnknownNameError, match="given"):
        mm.extractor(f"{NAME}(gven)")


def test_a_class_without_examples_has_no_vector(planted):
    task, p = planted.subject.task, 7
    train = torch.isin(task.ids, task.train_ids) & (task.given(task.ids) != 3)
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), task.true(task.ids), train, n_classes=p)
    subject = dataclasses.replace(planted.subject, task=arrays)
    weights = subject.roles.readout.read(VelpicReadout()(subject).model)
    assert weights.any(0).tolist() == [each != 3 for each in range(p)]
    assert not (answers(NAME, subject, arrays.test_ids) == 3).any()


def test_what_it_cannot_read_is_refused(planted, tiny_run):
    task = planted.subject.task
    train = torch.isin(task.ids, task.train_ids)
    unknown = torch.where(train, -1, task.true(task.ids))
    arrays = mm.ArrayTask(task.operands, task.given(task.ids), unknown, train, n_classes=7)
    blind = dataclasses.replace(planted.subject, task=arrays)
    assert len(answers(NAME, blind, arrays.test_ids)) == len(arrays.test_ids)
    with pytest.raises(MissingNeedError, match="true labels of the training examples are not known"):
        VelpicReadout("true")(blind)
    with pytest.raises(MissingNeedError, match="needs role:hidden, role:readout"):
        VelpicReadout()(dataclasses.replace(blind, roles=mm.Roles()))
    unnamed = images(NETWORKS["mlp with a bias"])
    with torch.no_grad():
        unnamed.model.readout.bias += 1
    unnamed = dataclasses.replace(unnamed, roles=dataclasses.replace(unnamed.roles, bias=None))
    with pytest.raises(NotLinearError, match="not linear in 'layers.1.hook_hidden'"):
        VelpicReadout()(unnamed)
    row = mm.audit(unnamed, NAME).row(NAME)
    assert row.splits["test"].estimate is None and "not linear" in row.splits["test"].reason


def test_the_audit_sets_it_beside_its_controls(tiny_run):
    found = mm.audit(tiny_run, ["velpic", NAME])
    first, second = (found.row(name) for name in ("velpic", NAME))
    assert second.splits == first.splits and second.controls["untrained"] == first.controls["untrained"]
