import numpy as np
import pytest
import torch

import mechmem as mm
from mechmem.errors import MissingNeedError, UnknownNameError
from mechmem.models.networks.mlp import HookedMLP
from mechmem.scorecard.surgeries.cosine_ideal import CosineIdeal
from mechmem.scorecard.surgeries.frequency import FrequencyFiltration

CASES = [("add", 3), ("add", 7), ("add", 8), ("subtract", 6), ("subtract", 9), ("multiply", 3), ("multiply", 7)]


def random_network(op, p, *, tied=False, width=9):
    model = HookedMLP(mm.MLPConfig(width=width, bias=True, tied=tied), p, seed=3).double()
    model.b_out.data = torch.randn(p, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    task = mm.ModularTask(mm.ModularConfig(op=op, p=p, train_fraction=0.5))
    return mm.Subject(model, task, model.roles)


def vectors(subject):
    u, v = subject.roles.input_embedding.read(subject.model)
    return [x.numpy().copy() for x in (u, v, subject.roles.readout.read(subject.model).T)]


@pytest.mark.parametrize(("op", "p"), CASES)
@pytest.mark.parametrize("tied", [False, True])
def test_with_measured_phases_and_amplitudes_it_is_frequency_filtration(op, p, tied):
    subject = random_network(op, p, tied=tied)
    found, kept = CosineIdeal(amplitude="measured")(subject), FrequencyFiltration()(subject)
    for (name, one), two in zip(found.model.named_parameters(), kept.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=0, msg=name)


@pytest.mark.parametrize(("op", "p"), CASES)
def test_equal_amplitudes_leave_direction_and_frequency_alone(op, p):
    subject = random_network(op, p)
    elements = subject.task.group.elements.numpy()
    found, kept, raw = vectors(CosineIdeal()(subject)), vectors(FrequencyFiltration()(subject)), vectors(subject)
    measured, rebuilt = [], []
    n = len(elements)
    for one, two, own in zip(found, kept, raw, strict=True):
        nyquist = np.abs(np.abs(two[elements]).max(0) - np.abs(two[elements]).min(0)) < 1e-12
        scale = np.where(nyquist & (n % 2 == 0), n, n / 2)
        measured.append(np.sqrt(np.square(two[elements]).sum(0) / scale))
        rebuilt.append(np.sqrt(np.square(one[elements]).sum(0) / scale))
        np.testing.assert_allclose(one[elements] / rebuilt[-1], two[elements] / measured[-1], atol=1e-9)
        outside = np.setdiff1d(np.arange(p), elements)
        assert (one[outside] == own[outside]).all()
    inputs = np.sqrt(np.mean(np.square(measured[:2])))
    np.testing.assert_allclose(rebuilt[:2], inputs)
    np.testing.assert_allclose(rebuilt[2], np.sqrt(np.mean(np.square(measured[2]))))


@pytest.mark.parametrize(("op", "p"), [("add", 7), ("subtract", 9)])
def test_for_relu_the_predictions_are_those_of_unit_cosines(op, p):
    subject = random_network(op, p)
    rebuilt = CosineIdeal()(subject)
    u, v, w = vectors(rebuilt)
    unit = [x / np.sqrt(np.square(x).sum(0) * 2 / p) for x in (u, v, w)]
    a, b = subject.task.operands.numpy().T
    scores = np.maximum(unit[0][a] + unit[1][b], 0) @ unit[2].T
    found = mm.extractor("cosine_ideal")(subject)(subject.task.ids).numpy()
    np.testing.assert_allclose(found / np.abs(found).max(), scores / np.abs(scores).max(), atol=1e-12)


@pytest.mark.parametrize("op", ["add", "subtract", "multiply"])
@pytest.mark.parametrize("p", [7, 13])
def test_a_planted_network_is_rebuilt_as_it_is(op, p):
    planted = mm.planted_network(p, op=op, dtype=torch.float64)
    rule = (planted.frequency > 0).numpy()
    for surgery in (CosineIdeal(amplitude="measured"), CosineIdeal("aligned", "measured")):
        for one, two in zip(vectors(surgery(planted.subject)), vectors(planted.subject), strict=True):
            np.testing.assert_allclose(one[:, rule], two[:, rule], atol=1e-10)


@pytest.mark.parametrize("op", ["add", "subtract"])
def test_alignment_repairs_output_phases_that_were_lost(op):
    planted = mm.planted_network(13, op=op, dtype=torch.float64)
    model = planted.subject.copy_model()
    shift = torch.randint(13, (model.W_out.shape[0],), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.W_out.copy_(torch.stack([row.roll(int(by)) for row, by in zip(model.W_out, shift, strict=True)]))
    lost = planted.subject.with_model(model)
    ids = lost.task.ids
    accuracy = {
        name: float((mm.extractor(name)(lost)(ids).argmax(1) == lost.task.true(ids)).double().mean())
        for name in ("cosine_ideal", "cosine_aligned")
    }
    assert accuracy["cosine_ideal"] < 0.5 and accuracy["cosine_aligned"] == 1


def test_neurons_without_a_vector_stay_without_one():
    subject = random_network("add", 7)
    with torch.no_grad():
        subject.model.W_out[2] = 0
        subject.model.W_in[:, 5] = 0
    u, v, w = vectors(CosineIdeal()(subject))
    for dead in (2, 5):
        assert not u[:, dead].any() and not v[:, dead].any() and not w[:, dead].any()
    assert np.isfinite(u).all() and u[:, 0].any()
    with torch.no_grad():
        subject.model.W_out.zero_()
    assert all(np.isfinite(x).all() for x in vectors(CosineIdeal()(subject)))


def test_bias_is_dropped_and_the_network_left_alone():
    subject = random_network("multiply", 7)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    bias = CosineIdeal()(subject).model.b_out
    assert not bias[1:].any() and bias[0] == before["b_out"][0]
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


def test_what_is_told_depends_on_the_phases():
    assert "operation" not in CosineIdeal().told() and "operation" in CosineIdeal("aligned").told()
    assert mm.extractor("cosine_aligned").parts[0] == CosineIdeal("aligned")
    assert mm.extractor("cosine_ideal").control() == mm.extractor("random_frequency")
    subject = random_network("add", 7)
    subject.task.operation = None
    CosineIdeal()(subject)
    with pytest.raises(MissingNeedError, match="needs operation"):
        CosineIdeal("aligned")(subject)


def test_unknown_settings_are_refused():
    with pytest.raises(UnknownNameError, match="phases of a rebuilt network 'aligend'. Did you mean 'aligned'"):
        CosineIdeal(phases="aligend")
    with pytest.raises(UnknownNameError, match="amplitude"):
        CosineIdeal(amplitude="unit")
